"""Trains and samples the same networks with PyTorch and with diffuse, in turns, and prints how fast each is.

    scripts/bench-peers [CONFIG...]      (makes the environment and calls this; DIFFUSE_MNIST says where MNIST is)
    build/peers/bin/python scripts/bench_peers.py configs/demo.json --rounds 1 --only training

First, the network written here must draw the same images as diffuse, with diffuse's weights. Then every contestant runs
in a process of its own: once to find the work that fills the time and the best batch for sampling, then in the order
A B C ... C B A. Only these children load torch, as a child's peak memory begins with its parent's.
"""
import argparse
import json
import math
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

if IS_CHILD := "--child" in sys.argv:
    import torch
    from safetensors.torch import load_file, save_file
    from torch import nn
    from torch.nn import functional as F

SAMPLING_STEPS, SAMPLING_BATCHES = 10, [32, 128]
KINDS = {"eager": "PyTorch eager, NCHW", "channels-last": "PyTorch eager, channels-last", "compiled": "torch.compile"}

# Networks without a preset file: 6.4 M parameters for random colour images of 64x64, and one without any extras.
BUILT_IN = {
    "colour-64": {"schedule": {"kind": "cosine"},
                  "model": {"base_channels": 64, "channel_multipliers": [1, 2, 2, 2], "attention_resolutions": [8],
                            "middle_blocks": 2, "position_embedding": False},
                  "train": {"batch_size": 16, "optimizer": "adamw"}},
    "plain-128": {"model": {"base_channels": 32, "channel_multipliers": [1, 2, 2], "middle_blocks": 2, "classes": 0,
                            "position_embedding": False},
                  "train": {"batch_size": 128, "optimizer": "adamw"}}}
DEFAULT = ["configs/demo.json", "configs/mnist.json", *BUILT_IN]


# ---- the same network in PyTorch: src/nets/unet.cpp and layers.cpp, with their names ---------------------------------

def group_norm(channels):
    groups = min(32, channels // 8)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def rows(table, labels):
    return table.weight[-1:] if labels is None else table(labels)  # the last row is of no label


def define_unet():
    """The class UNet: nothing of torch is known where this file begins."""
    class Attention(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.heads = max(1, channels // 32)
            while channels % self.heads:
                self.heads -= 1
            self.norm = group_norm(channels)
            self.qkv, self.proj = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

        def forward(self, x):
            n, channels, height, width = x.shape
            parts = self.qkv(self.norm(x)).flatten(2).unflatten(1, (self.heads, 3, -1))  # [N, heads, 3, d, HW]
            mixed = F.scaled_dot_product_attention(*parts.transpose(3, 4).unbind(2))  # [N, heads, HW, d]
            mixed = mixed.transpose(1, 2).reshape(n, height, width, channels).permute(0, 3, 1, 2)
            return x + self.proj(mixed)

    class Block(nn.Module):
        """A residual block, and attention where there is any."""

        def __init__(self, cin, cout, embedding, attends):
            super().__init__()
            self.norm1, self.conv1 = group_norm(cin), nn.Conv2d(cin, cout, 3, padding=1)
            self.film = nn.Linear(embedding, 2 * cout)
            self.norm2, self.conv2 = group_norm(cout), nn.Conv2d(cout, cout, 3, padding=1)
            self.shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()
            self.attention = Attention(cout) if attends else nn.Identity()

        def forward(self, x, embedding):
            scale, shift = self.film(embedding)[:, :, None, None].chunk(2, 1)
            h = self.conv1(F.silu(self.norm1(x)))
            h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale)))
            return self.attention(self.shortcut(x) + h)

    class UNet(nn.Module):
        def __init__(self, model, shape):
            super().__init__()
            base, classes = model["base_channels"], model["classes"]
            widths = [base * multiplier for multiplier in model["channel_multipliers"]]
            self.levels, self.blocks, self.middles = len(widths), model["blocks_per_level"], model["middle_blocks"]
            self.positioned = classes <= 100 if model["position_embedding"] is None else model["position_embedding"]
            heights = [shape[1] >> level for level in range(self.levels)]
            attended = [height or heights[-1] for height in model["attention_resolutions"]]
            self.time1, self.time2 = nn.Linear(base, 4 * base), nn.Linear(4 * base, 4 * base)
            frequencies = torch.exp(torch.arange(base // 2) * (-math.log(10000) / (base // 2)))
            self.register_buffer("frequencies", frequencies, persistent=False)
            self.label = nn.Embedding(classes + 1, 4 * base) if classes else None
            self.stem = nn.Conv2d(shape[0], base, 3, padding=1)
            skips, channels = [base], base
            for level, (width, height) in enumerate(zip(widths, heights)):
                if self.positioned:
                    table = nn.Embedding(classes + 1, height * (shape[2] >> level) * channels)
                    self.add_module(f"position{level}", table)
                for i in range(self.blocks):
                    self.add_module(f"down{level}_{i}", Block(channels, width, 4 * base, height in attended))
                    skips.append(channels := width)
                if level + 1 < self.levels:
                    self.add_module(f"downsample{level}", nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                    skips.append(channels)
            for i in range(self.middles):  # attention in every second
                attends = i % 2 == 0 and heights[-1] in attended
                self.add_module(f"middle{i}", Block(channels, channels, 4 * base, attends))
            for level in reversed(range(self.levels)):
                for i in range(self.blocks + 1):
                    block = Block(channels + skips.pop(), widths[level], 4 * base, heights[level] in attended)
                    self.add_module(f"up{level}_{i}", block)
                    channels = widths[level]
                if level:
                    self.add_module(f"upsample{level}", nn.Conv2d(channels, widths[level - 1], 3, padding=1))
                    channels = widths[level - 1]
            self.head_norm, self.head = group_norm(channels), nn.Conv2d(channels, shape[0], 3, padding=1)

        def with_positions(self, level, h, labels):
            if not self.positioned:
                return h
            features = rows(getattr(self, f"position{level}"), labels)
            return h + features.view(-1, h.shape[2], h.shape[3], h.shape[1]).permute(0, 3, 1, 2)

        def forward(self, x, t, labels):
            angles = t[:, None] * self.frequencies
            embedding = self.time2(F.silu(self.time1(torch.cat([angles.cos(), angles.sin()], 1))))
            embedding = F.silu(embedding + rows(self.label, labels) if self.label is not None else embedding)
            skips = [h := self.with_positions(0, self.stem(x), labels)]
            for level in range(self.levels):
                for i in range(self.blocks):
                    skips.append(h := getattr(self, f"down{level}_{i}")(h, embedding))
                if level + 1 < self.levels:
                    h = getattr(self, f"downsample{level}")(h)
                    skips.append(h := self.with_positions(level + 1, h, labels))
            for i in range(self.middles):
                h = getattr(self, f"middle{i}")(h, embedding)
            for level in reversed(range(self.levels)):
                for i in range(self.blocks + 1):
                    h = getattr(self, f"up{level}_{i}")(torch.cat([h, skips.pop()], 1), embedding)
                if level:
                    h = getattr(self, f"upsample{level}")(F.interpolate(h, scale_factor=2.0, mode="nearest"))
            return self.head(F.silu(self.head_norm(h)))

    return UNet


# ---- what a child does: PyTorch's contestants, and the check ---------------------------------------------------------

def prepared(job):
    """The network with diffuse's weights, the same as a user would call it, and its memory layout."""
    torch.manual_seed(0)
    torch.set_num_threads(job["threads"])
    torch.set_flush_denormal(True)
    network = define_unet()(job["model"], job["shape"])
    network.load_state_dict({name.removeprefix("ema.").replace("_attention.", ".attention."): value
                             for name, value in load_file(job["checkpoint"]).items() if name.startswith("ema.")})
    layout = torch.contiguous_format if job["kind"] == "eager" else torch.channels_last
    network = network.to(memory_format=layout)
    return network, (torch.compile(network) if job["kind"] == "compiled" else network), layout


def timed(step, batch, work):
    """Work a second, of steps that do a batch each, and the process's peak memory."""
    step(0), step(1)  # compile and warm up
    start, steps = time.perf_counter(), math.ceil(work / batch)
    for i in range(steps):
        step(i)
    speed = steps * batch / (time.perf_counter() - start)
    return {"per_second": speed, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def train_torch(job):
    """The loss of eps with weighting flow. Random bytes as data, and t uniform, take the same time as any others."""
    network, forward, layout = prepared(job)
    weights, average = list(network.parameters()), [p.detach().clone() for p in network.parameters()]
    train, batch, classes = job["train"], job["batch"], job["model"]["classes"]
    optimizer = torch.optim.AdamW(weights, lr=train["learning_rate"], weight_decay=train["weight_decay"], fused=True)
    images = torch.randint(256, (job["examples"], *job["shape"]), dtype=torch.uint8)
    labels = torch.randint(classes, (job["examples"],)) if classes else None
    times, alphas, sigmas = torch.tensor(job["levels"]).T.contiguous()

    def step(_):
        chosen, k = torch.randint(len(images), (batch,)), torch.randint(len(times), (batch,))
        x0 = images[chosen].float().div(127.5).sub(1).contiguous(memory_format=layout)
        asked = labels[chosen].masked_fill(torch.rand(batch) < train["label_dropout"], classes) if classes else None
        alpha, sigma, eps = alphas[k].view(-1, 1, 1, 1), sigmas[k].view(-1, 1, 1, 1), torch.randn_like(x0)
        error = forward(alpha * x0 + sigma * eps, times[k], asked) - (alpha / (1 + sigma) * eps - x0)
        loss = ((alpha + sigma) * error).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, train["gradient_clip"], foreach=True)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - train["ema_decay"])

    return timed(step, batch, job["work"])


def ddim_step(forward, x, labels, level, following):
    """Song et al. 2021 (arXiv:2010.02502), eq. 12, of a network F that says eps = x + alpha F."""
    (t, alpha, sigma), (_, next_alpha, next_sigma) = level, following
    output = forward(x, torch.full((len(x),), t), labels)
    return next_alpha * (alpha / (1 + sigma) * x - sigma * output) + next_sigma * (x + alpha * output)


def all_classes(job, count):
    return torch.arange(count) % job["model"]["classes"] if job["model"]["classes"] else None


def sample_torch(job):
    _, forward, layout = prepared(job)
    x = torch.randn(job["batch"], *job["shape"]).contiguous(memory_format=layout)
    labels, grid = all_classes(job, job["batch"]), job["grid"]

    def step(i):
        nonlocal x
        at = i % SAMPLING_STEPS
        x = ddim_step(forward, x if at else torch.randn_like(x), labels, grid[at], grid[at + 1])

    with torch.inference_mode():
        return timed(step, job["batch"], job["work"])


def compare_networks(job):
    """The largest difference between diffuse's images and PyTorch's, of the same noise and weights."""
    network, forward, _ = prepared(job)
    folder = pathlib.Path(job["checkpoint"]).parent
    x, labels = torch.randn(16, *job["shape"]), all_classes(job, 16)
    save_file({"latents": x}, folder / "latents.safetensors")
    run([*job["sample"], "--latents", folder / "latents.safetensors", "--save-tensors", folder / "x0.safetensors",
         "--out", folder / "x0.png", *(["--class", "all"] if labels is not None else [])])
    with torch.inference_mode():
        for level, following in zip(job["grid"], job["grid"][1:]):
            x = ddim_step(forward, x, labels, level, following)
    x = x.clamp(-1, 1)  # as diffuse writes it
    return {"difference": (load_file(folder / "x0.safetensors")["images"] - x).abs().max().item(),
            "inside": (x.abs() < 1).float().mean().item(), "parameters": sum(p.numel() for p in network.parameters())}


def describe_torch(_):
    onednn = re.search(r"MKL-DNN (v\S+)", torch.__config__.show())[1]
    return f"PyTorch {torch.__version__} with oneDNN {onednn}; uses {torch.backends.cpu.get_cpu_capability()}"


# ---- diffuse ---------------------------------------------------------------------------------------------------------

def run(command):
    """The command's output and its peak memory in MB."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0), errors.seek(0)
        if process.returncode != 0:
            raise SystemExit(f"failed: {' '.join(map(str, command))}\n{errors.read().decode()}")
        return output.read().decode(), usage.ru_maxrss / 1024


def train_diffuse(job, *options):
    """The first fifth of the steps warms up."""
    fifth, out = math.ceil(job["work"] / job["batch"] / 4), pathlib.Path(job["config"]).parent / "run"
    keys = [f"train.steps={5 * fifth}", f"train.log_every={fifth}", "train.sample_every=0", "train.checkpoint_every=0"]
    _, peak = run([job["program"], "train", "--config", job["config"], "--out", out, "--force", "--threads",
                   str(job["threads"]), *(part for key in [*keys, *options] for part in ("--set", key))])
    first, *_, last = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    speed = (last["images"] - first["images"]) / (last["wall_seconds"] - first["wall_seconds"])
    return {"per_second": speed, "peak_mb": peak}


def sample_diffuse(job):
    count = 16 * math.ceil(job["work"] / SAMPLING_STEPS / 16)  # groups of 8 for two cores
    grid = pathlib.Path(job["checkpoint"]).parent / "grid.png"
    output, peak = run([*job["sample"], "--num", str(count), "--json", "--out", grid])
    return {"per_second": count * SAMPLING_STEPS / json.loads(output)["seconds"], "peak_mb": peak}


def write_config(name, folder):
    """The preset without what it says of sampling; colour-64 with its images."""
    config = dict(BUILT_IN[name] if name in BUILT_IN else json.loads(pathlib.Path(name).read_text()))
    config.pop("sample", None)
    if name == "colour-64":
        header = bytes([0, 0, 8, 4]) + b"".join(size.to_bytes(4, "big") for size in (1000, 64, 64, 3))
        (folder / "train-images-idx4-ubyte").write_bytes(header + os.urandom(1000 * 64 * 64 * 3))
        config["dataset"] = {"kind": "idx", "dir": str(folder)}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder / "config.json")


def begin(name, folder, program, threads):
    """What all contestants need to know, after a short run: a new network predicts zero."""
    job = {"config": write_config(name, folder), "program": program, "threads": threads, "batch": 32, "work": 32 * 16}
    train_diffuse(job, "train.batch_size=32", "train.warmup_steps=0")
    checkpoint = str((folder / "run" / "checkpoint.safetensors").rename(folder / "checkpoint.safetensors"))
    info = json.loads(run([program, "info", checkpoint, "--json"])[0])
    train = json.loads(run([program, "train", "--config", job["config"], "--dry-run"])[0])["train"]
    sample = [program, "sample", "--checkpoint", checkpoint, "--solver", "ddim", "--threads", str(threads), "--steps"]

    def levels(*steps):
        shown = json.loads(run([*sample, *steps, "--show-grid", "--json"])[0])
        return [[level["t"], level["alpha"], level["sigma"]] for level in shown]

    trained = levels(str(info["config"]["schedule"]["steps"]), "--max-ratio", "inf")[:-1]
    return {**job, "checkpoint": checkpoint, "model": info["config"]["model"], "train": train, "levels": trained,
            "shape": info["image_shape"], "examples": int(info["data"].split()[0]), "parameters": info["parameters"],
            "grid": levels(str(SAMPLING_STEPS)), "sample": [*sample, str(SAMPLING_STEPS)]}


# ---- the match -------------------------------------------------------------------------------------------------------

def child(job):
    """What the function that job["what"] names returns, in a process of its own."""
    return json.loads(run([sys.executable, __file__, "--child", json.dumps(job)])[0])


def contestants(job, what):
    """Functions of batch and work (images, or evaluations) by their names."""
    def entry(kind):
        own = train_diffuse if what == "training" else sample_diffuse
        go = own if kind == "diffuse" else child
        return lambda batch, work: go({**job, "what": what, "kind": kind, "batch": batch, "work": work})

    optimizers = {"diffuse": {"muon": ", Muon", "adamw": ", AdamW"}[job["train"]["optimizer"]]}
    return {name + (optimizers.get(kind, ", fused AdamW") if what == "training" else ""): entry(kind)
            for kind, name in {**KINDS, "diffuse": "diffuse"}.items()}


def fitted(contestant, batches, seconds):
    """The best batch, and the work that takes about so many seconds, by four steps of each batch."""
    speeds = {batch: contestant(batch, 4 * batch)["per_second"] for batch in batches}
    batch = max(speeds, key=speeds.get)
    return batch, math.ceil(speeds[batch] * seconds)


def match(title, what, job, arguments):
    """Prints the table of one config's training or sampling; returns all measurements."""
    entered = {name: go for name, go in contestants(job, what).items()
               if arguments.only in f"{title}, {what}: {name}"}
    batches = [job["train"]["batch_size"]] if what == "training" else SAMPLING_BATCHES
    sizes = {name: fitted(go, batches, arguments.seconds) for name, go in entered.items()}
    results = {name: [] for name in entered}
    for name in [*entered, *reversed(entered)] * arguments.rounds:
        results[name].append(entered[name](*sizes[name]))
        print(f"{title}, {what}: {name}: {results[name][-1]}", file=sys.stderr, flush=True)
    speeds = {name: [r["per_second"] for r in runs] for name, runs in results.items()}
    peers = [statistics.median(each) for name, each in speeds.items() if not name.startswith("diffuse")]
    if entered:
        unit = "images/s" if what == "training" else "evaluations/s"
        print(f"\n| {what} | batch | {unit}, median | least to most | of the best peer | peak memory, MB |\n"
              "|---|---|---|---|---|---|")
    for name, each in speeds.items():
        median, peak = statistics.median(each), max(r["peak_mb"] for r in results[name])
        batch = "groups of 8" if name == "diffuse" else sizes[name][0]  # while sampling, whatever --batch
        print(f"| {name} | {batch} | {median:.1f} | {min(each):.1f} to {max(each):.1f} "
              f"| {median / max(peers, default=math.nan):.2f} | {peak:.0f} |", flush=True)
    return [{"config": title, "what": what, "name": name, "batch": sizes[name][0], "runs": runs}
            for name, runs in results.items()]


def check(name, job):
    """Ends the program for a network that is not written here, or that computes something else."""
    wanted = {"kind": "unet", "dropout": 0, "patch_size": 1, "fourier_features": [], "prediction": "eps",
              "input_skip": "scaled"}
    if any(job["model"][key] != value for key, value in wanted.items()):
        raise SystemExit(f"{name}: only networks with model {json.dumps(wanted)} are written here")
    same = child({**job, "what": "compare", "kind": "eager"})
    print(f"\n{name}: {same['parameters']:,} parameters, images of {'x'.join(map(str, job['shape']))}; largest "
          f"difference of images {same['difference']:.1e}, {same['inside']:.0%} of values inside [-1, 1]", flush=True)
    if same["parameters"] != job["parameters"] or same["difference"] > 1e-4:
        raise SystemExit(f"{name}: PyTorch computes another function than diffuse")


def main():
    parser = argparse.ArgumentParser(description="times PyTorch and diffuse on the same networks")
    parser.add_argument("config", nargs="*", help=f"preset file, or {' or '.join(BUILT_IN)}; default: {DEFAULT}")
    parser.add_argument("--rounds", type=int, default=2, help="each is A B C ... C B A")
    parser.add_argument("--only", default="", metavar="NAME", help="those with NAME in 'CONFIG, training: CONTESTANT'")
    parser.add_argument("--seconds", type=float, default=10, help="of each run, about")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE", help="file for every measurement")
    parser.add_argument("--program", default="build/diffuse")
    arguments = parser.parse_args()
    machine = [*run([arguments.program, "info"])[0].splitlines()[:2], child({"what": "describe"}),
               f"{arguments.threads} threads each, {2 * arguments.rounds} runs each of about {arguments.seconds:g} s"]
    print("\n".join(machine), flush=True)
    results = []
    for name in arguments.config or DEFAULT:
        with tempfile.TemporaryDirectory() as folder:
            job = begin(name, pathlib.Path(folder), arguments.program, arguments.threads)
            check(name, job)
            for what in ("training", "sampling"):
                results += match(name, what, job, arguments)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({"machine": machine, "results": results}, indent=1))


if IS_CHILD:
    CHILDREN = {"training": train_torch, "sampling": sample_torch, "compare": compare_networks,
                "describe": describe_torch}
    given = json.loads(sys.argv[-1])
    print(json.dumps(CHILDREN[given["what"]](given)))
else:
    main()
