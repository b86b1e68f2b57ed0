"""Trains and samples the same network with PyTorch and with diffuse, in turns, and prints how fast each is.

    scripts/bench-peers          (makes the environment and calls this; DIFFUSE_MNIST says where MNIST is)
    build/peers/bin/python scripts/bench_peers.py --rounds 2 --batch 128

Every contestant runs in a process of its own and prints one line of JSON, so that peak memory is its own. First, the
network written here must compute what diffuse's does, with diffuse's weights (this process never loads torch: a child
begins with its parent's peak memory). Their order is A B C ... C B A.
"""
import argparse
import gzip
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

BASE, MULTIPLIERS, T = 32, [1, 2, 2], 1000
SAMPLING_STEPS = 10


# ---- the same network, with the same names, in PyTorch ----------------------------------------------------------------

def make_unet():
    import torch
    from torch import nn
    from torch.nn import functional as F

    def norm(channels):
        groups = min(32, channels // 8)
        while channels % groups:
            groups -= 1
        return nn.GroupNorm(groups, channels)

    class Block(nn.Module):
        def __init__(self, cin, cout):
            super().__init__()
            self.norm1, self.conv1 = norm(cin), nn.Conv2d(cin, cout, 3, padding=1)
            self.film = nn.Linear(4 * BASE, 2 * cout)
            self.norm2, self.conv2 = norm(cout), nn.Conv2d(cout, cout, 3, padding=1)
            self.shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else None

        def forward(self, x, embedding):
            scale, shift = self.film(embedding)[:, :, None, None].chunk(2, 1)
            h = self.conv1(F.silu(self.norm1(x)))
            h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale)))
            return h + (self.shortcut(x) if self.shortcut is not None else x)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.time1, self.time2 = nn.Linear(BASE, 4 * BASE), nn.Linear(4 * BASE, 4 * BASE)
            self.stem = nn.Conv2d(1, BASE, 3, padding=1)
            widths, skips, channels = [BASE * m for m in MULTIPLIERS], [BASE], BASE
            for level, width in enumerate(widths):
                self.add_module(f"down{level}_0", Block(channels, width))
                channels = width
                skips.append(channels)
                if level + 1 < len(widths):
                    self.add_module(f"downsample{level}", nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                    skips.append(channels)
            self.middle0, self.middle1 = Block(channels, channels), Block(channels, channels)
            for level in reversed(range(len(widths))):
                for i in range(2):
                    self.add_module(f"up{level}_{i}", Block(channels + skips.pop(), widths[level]))
                    channels = widths[level]
                if level:
                    self.add_module(f"upsample{level}", nn.Conv2d(channels, widths[level - 1], 3, padding=1))
                    channels = widths[level - 1]
            self.head_norm, self.head = norm(channels), nn.Conv2d(channels, 1, 3, padding=1)

        def forward(self, x, t):
            half = BASE // 2
            frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-torch.log(torch.tensor(10000.0)) / half))
            angles = t.float()[:, None] * frequencies
            embedding = torch.cat([angles.cos(), angles.sin()], 1)
            embedding = F.silu(self.time2(F.silu(self.time1(embedding))))
            h = self.stem(x)
            skips = [h]
            for level in range(len(MULTIPLIERS)):
                h = getattr(self, f"down{level}_0")(h, embedding)
                skips.append(h)
                if level + 1 < len(MULTIPLIERS):
                    h = getattr(self, f"downsample{level}")(h)
                    skips.append(h)
            h = self.middle1(self.middle0(h, embedding), embedding)
            for level in reversed(range(len(MULTIPLIERS))):
                for i in range(2):
                    h = getattr(self, f"up{level}_{i}")(torch.cat([h, skips.pop()], 1), embedding)
                if level:
                    h = getattr(self, f"upsample{level}")(F.interpolate(h, scale_factor=2.0, mode="nearest"))
            return self.head(F.silu(self.head_norm(h)))

    return UNet()


def levels():
    import torch
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, T, dtype=torch.float64), 0)
    return alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()


def training_images():
    import numpy
    import torch
    folder = pathlib.Path(os.environ["DIFFUSE_MNIST"])
    plain = folder / "train-images-idx3-ubyte"
    data = plain.read_bytes() if plain.exists() else gzip.decompress((folder / "train-images-idx3-ubyte.gz").read_bytes())
    return torch.from_numpy(numpy.frombuffer(data, numpy.uint8, offset=16).reshape(-1, 1, 28, 28).copy())


# ---- PyTorch's contestants: each prints its images a second and its peak memory ---------------------------------------

def prepared(kind):
    import torch
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    torch.set_flush_denormal(True)
    network = make_unet()
    layout = torch.contiguous_format if kind == "eager" else torch.channels_last
    network = network.to(memory_format=layout)
    return network, (torch.compile(network) if kind == "compiled" else network), layout


def timed(step, warm_up, steps):
    for _ in range(warm_up):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - start


def report(images, seconds, **more):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"images_per_second": images / seconds, "peak_mb": peak, **more}))


def train_torch(kind, batch, steps):
    import torch
    network, run, layout = prepared(kind)
    average = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0, fused=True)
    images, (alpha, sigma) = training_images(), levels()

    def step():
        x0 = images[torch.randint(len(images), (batch,))].float().div(127.5).sub(1).contiguous(memory_format=layout)
        t = torch.randint(T, (batch,))
        eps = torch.randn_like(x0)
        a, s = alpha[t].view(-1, 1, 1, 1), sigma[t].view(-1, 1, 1, 1)
        x = a * x0 + s * eps
        loss = torch.nn.functional.mse_loss(s * x + a * run(x, t + 1), eps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(network.parameters()), 0.001)
        loss.item()

    report(batch * steps, timed(step, 2, steps))


def sample_torch(kind, batch, count):
    import torch
    network, run, layout = prepared(kind)
    network.eval()
    alpha, sigma = (torch.cat([torch.tensor([first]), rest]) for first, rest in zip((1.0, 0.0), levels()))
    times = [round(T * (1 - i / SAMPLING_STEPS)) for i in range(SAMPLING_STEPS + 1)]

    def draw():
        with torch.inference_mode():
            x = torch.randn(batch, 1, 28, 28).contiguous(memory_format=layout)
            for t, s in zip(times[:-1], times[1:]):
                v = run(x, torch.full((batch,), t))
                x = alpha[s] * (alpha[t] * x - sigma[t] * v) + sigma[s] * (sigma[t] * x + alpha[t] * v)

    report(batch * (count // batch), timed(draw, 1, count // batch))


def sample_diffusers(batch, count):
    import torch
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
    torch.set_num_threads(os.cpu_count())
    unet = UNet2DModel(sample_size=28, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=8,
                       block_out_channels=[BASE * m for m in MULTIPLIERS], resnet_time_scale_shift="scale_shift",
                       down_block_types=["DownBlock2D"] * 3, up_block_types=["UpBlock2D"] * 3, add_attention=False)
    pipeline = DDIMPipeline(unet, DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    draw = lambda: pipeline(batch_size=batch, num_inference_steps=SAMPLING_STEPS, output_type="np")
    report(batch * (count // batch), timed(draw, 1, count // batch), parameters=sum(p.numel() for p in unet.parameters()))


def convolutions_alone(batch):
    """Seconds of all the network's convolutions in one training step and in one evaluation, each at its best of five."""
    import torch
    network, _, layout = prepared("channels-last")
    calls = []
    hooks = [layer.register_forward_hook(lambda layer, inputs, _: calls.append((layer, inputs[0].shape)))
             for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    network(torch.randn(batch, 1, 28, 28), torch.ones(batch))
    for hook in hooks:
        hook.remove()
    forward = both = 0
    for layer, shape in calls:
        x = torch.randn(shape).contiguous(memory_format=layout).requires_grad_(shape[1] > 1)  # but for the stem's
        direction = torch.randn_like(layer(x))

        def alone():
            with torch.inference_mode():
                layer(x)

        forward += min(timed(alone, 1, 1) for _ in range(5))
        both += min(timed(lambda: layer(x).backward(direction), 1, 1) for _ in range(5))
    print(json.dumps({"forward": forward, "both": both}))


# ---- diffuse --------------------------------------------------------------------------------------------------------

def write_config(folder, batch, steps):
    config = {"model": {"base_channels": BASE, "channel_multipliers": MULTIPLIERS, "prediction": "v", "classes": 0,
                        "middle_blocks": 2, "position_embedding": False},
              "train": {"steps": steps, "batch_size": batch, "optimizer": "adamw", "log_every": 2, "sample_every": 0,
                        "checkpoint_every": 0}}
    path = pathlib.Path(folder) / "config.json"
    path.write_text(json.dumps(config))
    return path


def run(command):
    """The command's output and its peak memory in MB."""
    reader, writer = os.pipe()
    process = subprocess.Popen(command, stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    with os.fdopen(reader) as stream:
        output = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    return output, usage.ru_maxrss / 1024


def train_diffuse(program, folder, batch, steps):
    out = pathlib.Path(folder) / "run"
    _, peak = run([program, "train", "--config", write_config(folder, batch, steps + 2), "--out", out, "--force"])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    seconds = lines[-1]["wall_seconds"] - lines[0]["wall_seconds"]
    return {"images_per_second": (lines[-1]["images"] - lines[0]["images"]) / seconds, "peak_mb": peak}


def sample_diffuse(program, folder, count):
    output, peak = run([program, "sample", "--checkpoint", pathlib.Path(folder) / "run", "--solver", "ddim", "--steps",
                        str(SAMPLING_STEPS), "--num", str(count), "--out", pathlib.Path(folder) / "grid.png", "--json"])
    return {"images_per_second": count / json.loads(output)["seconds"], "peak_mb": peak}


def compare_networks(program, folder):
    """Prints the largest difference between our v at t = T and that of PyTorch with the same weights."""
    import torch
    from safetensors.torch import load_file, save_file
    train_diffuse(program, folder, 32, 20)  # a new network predicts zero
    file = pathlib.Path(folder) / "run" / "checkpoint.safetensors"
    network = make_unet()
    network.load_state_dict({name.removeprefix("ema."): value for name, value in load_file(file).items()
                             if name.startswith("ema.")})
    latents, result = pathlib.Path(folder) / "latents.safetensors", pathlib.Path(folder) / "x0.safetensors"
    x = torch.randn(16, 1, 28, 28)
    save_file({"latents": x}, latents)
    run([program, "sample", "--checkpoint", file, "--latents", latents, "--solver", "ddim", "--steps", "1",
         "--save-tensors", result, "--out", pathlib.Path(folder) / "x0.png"])
    alpha, sigma = (level[-1] for level in levels())
    with torch.inference_mode():
        expected = alpha * x - sigma * network(x, torch.tensor([T]))
    measured = next(iter(load_file(result).values()))
    print(json.dumps({"difference": (measured - expected).abs().max().item(), "largest": expected.abs().max().item()}))


# ---- the match --------------------------------------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default="build/diffuse")
    parser.add_argument("--rounds", type=int, default=2, help="each is A B C ... C B A")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="timed training steps")
    parser.add_argument("--count", type=int, default=256, help="images drawn")
    parser.add_argument("--alone", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        what, kind = arguments.alone
        if what == "compare":
            with tempfile.TemporaryDirectory() as folder:
                return compare_networks(arguments.program, folder)
        if what == "convolutions":
            return convolutions_alone(arguments.batch)
        if what == "train":
            return train_torch(kind, arguments.batch, arguments.steps)
        return sample_diffusers(arguments.batch, arguments.count) if kind == "diffusers" else sample_torch(kind, arguments.batch, arguments.count)

    def alone(what, kind):
        output, peak = run([sys.executable, __file__, "--batch", str(arguments.batch), "--steps", str(arguments.steps),
                            "--count", str(arguments.count), "--program", arguments.program, "--alone", what, kind])
        return json.loads(output.splitlines()[-1])

    with tempfile.TemporaryDirectory() as folder:
        both = alone("compare", "networks")
        print("the same function: largest difference {difference:.1e} of values up to {largest:.2f}".format(**both), flush=True)
        assert both["difference"] < 1e-4
        train_diffuse(arguments.program, folder, arguments.batch, arguments.steps)  # for sampling to begin with
        matches = {
            "training": {"PyTorch eager, NCHW": lambda: alone("train", "eager"),
                         "PyTorch eager, channels-last": lambda: alone("train", "channels-last"),
                         "torch.compile": lambda: alone("train", "compiled"),
                         "diffuse": lambda: train_diffuse(arguments.program, folder, arguments.batch, arguments.steps)},
            "sampling": {"PyTorch eager, NCHW": lambda: alone("sample", "eager"),
                         "PyTorch eager, channels-last": lambda: alone("sample", "channels-last"),
                         "torch.compile": lambda: alone("sample", "compiled"),
                         "diffusers' DDIMPipeline": lambda: alone("sample", "diffusers"),
                         "diffuse": lambda: sample_diffuse(arguments.program, folder, arguments.count)}}
        convolutions = alone("convolutions", "channels-last")
        print(f"oneDNN's convolutions alone, each at its best of five: {convolutions['both']:.3f} s a training step of "
              f"{arguments.batch} images, {convolutions['forward']:.3f} s an evaluation")
        alone_per_image = {"training": convolutions["both"] / arguments.batch,
                           "sampling": SAMPLING_STEPS * convolutions["forward"] / arguments.batch}
        for what, contestants in matches.items():
            results = {name: [] for name in contestants}
            for _ in range(arguments.rounds):
                for name in [*contestants, *reversed(contestants)]:
                    results[name].append(contestants[name]())
                    print(f"{what}: {name}: {results[name][-1]}", file=sys.stderr, flush=True)
            speeds = {name: statistics.median(r["images_per_second"] for r in runs) for name, runs in results.items()}
            best_peer = max(speed for name, speed in speeds.items() if name != "diffuse")
            print(f"\n| {what} | images/s, median | least to most | of the best peer | time, of the convolutions alone | peak memory, MB |\n"
                  "|---|---|---|---|---|---|")
            for name, runs in results.items():
                each = [r["images_per_second"] for r in runs]
                print(f"| {name} | {speeds[name]:.1f} | {min(each):.1f} to {max(each):.1f} | {speeds[name] / best_peer:.2f} "
                      f"| {1 / speeds[name] / alone_per_image[what]:.2f} | {max(r['peak_mb'] for r in runs):.0f} |", flush=True)


main()
