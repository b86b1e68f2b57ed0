"""Writes solvers.json, beside this file: trajectories of the schedulers of diffusers 0.42.1 (PyTorch 2.13.0, CPU), in
double precision and with a denoiser in closed form, to which our solvers are compared.

    VENV=$(mktemp -d) && python3 -m venv "$VENV"
    "$VENV/bin/pip" install --extra-index-url https://download.pytorch.org/whl/cpu \\
        torch==2.13.0+cpu diffusers==0.42.1 numpy
    "$VENV/bin/python" tests/golden/make_golden.py

Levels are ours: t = 0 is data, t = 1 .. 1000 are trained, diffusers' k is t - 1; x_t = alpha x0 + sigma eps; r is
sigma / alpha. Our "uniform" grid of S steps is diffusers' "trailing" one, and t = 0, wherever 1000 / S is whole.
"""

import json
import pathlib
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers import (DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EDMEulerScheduler,
                       FlowMatchEulerDiscreteScheduler, HeunDiscreteScheduler, IPNDMScheduler, UniPCMultistepScheduler)

BETAS = {"num_train_timesteps": 1000, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}
TRAILING = {"timestep_spacing": "trailing"}

# Data: a mixture of round Gaussians in the plane.
MEANS = torch.tensor([[-0.6, 0.4], [0.5, 0.5], [0.1, -0.7]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
DEVIATION = 0.15

START = torch.tensor([[0.3, -1.2], [-0.8, 0.6], [1.5, 0.9], [-0.2, 0.1]], dtype=torch.float64)


def denoiser(x, alpha, sigma):
    """E[eps | x]: -sigma times the score of the mixture as it is after noising."""
    variance = (alpha * DEVIATION) ** 2 + sigma**2
    away = x[:, None, :] - alpha * MEANS
    share = torch.softmax(WEIGHTS.log() - away.square().sum(-1) / (2 * variance), dim=1)
    return sigma / variance * (share[:, :, None] * away).sum(1)


def clean(x, alpha, sigma):
    """E[x0 | x], also where alpha is 0."""
    variance = (alpha * DEVIATION) ** 2 + sigma**2
    away = x[:, None, :] - alpha * MEANS
    share = torch.softmax(WEIGHTS.log() - away.square().sum(-1) / (2 * variance), dim=1)
    return (share[:, :, None] * (MEANS + alpha * DEVIATION**2 / variance * away)).sum(1)


def draw_noise(steps):
    """One standard normal number a coordinate and step, of few digits so that the JSON holds it exactly."""
    return torch.from_numpy(np.random.default_rng(7).standard_normal((steps, *START.shape)).round(4))


def prepare(scheduler, steps):
    """Sets the grid; times (down to 0), alphas and sigmas of its levels, from the scheduler's own tables."""
    scheduler.set_timesteps(steps)
    ks = scheduler.timesteps.unique_consecutive().long()  # Heun names each level but the first twice
    if hasattr(scheduler, "sigmas"):
        ratios = scheduler.sigmas.unique_consecutive()  # "sigmas" are r
        alphas, sigmas = (1 + ratios**2).rsqrt(), ratios * (1 + ratios**2).rsqrt()
    else:
        alpha_bars = torch.cat([scheduler.alphas_cumprod[ks], torch.ones(1)])
        alphas, sigmas = alpha_bars.sqrt(), (1 - alpha_bars).sqrt()
    # Nothing of single precision may be left in the tables: see main.
    assert all(v.dtype in (torch.float64, torch.int64) for v in vars(scheduler).values() if torch.is_tensor(v))
    return [*(ks + 1).tolist(), 0], alphas, sigmas


def case(solver, scheduler, options, steps, levels, trajectory, note="", start=0, **more):
    times, alphas, sigmas = (level[start:] for level in levels)
    name = f"{solver}, {steps} steps" + (f", from t = {times[0]}" if start else "")
    return {"name": name, "solver": solver, "scheduler": type(scheduler).__name__, "options": options,
            "steps": steps - start, **more, "note": note, "times": times, "alphas": alphas, "sigmas": sigmas,
            "start": START, "trajectory": torch.stack(trajectory)}


def ddpm(solver, options, steps, note, last_noise):
    scheduler = DDPMScheduler(**BETAS, **TRAILING, **options, clip_sample=False)
    levels = prepare(scheduler, steps)
    noise, x, trajectory = draw_noise(steps), START, []
    noise[-1] *= last_noise
    for i, k in enumerate(scheduler.timesteps):
        # The only way to give it our noise.
        with mock.patch("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: noise[i]):
            x = scheduler.step(denoiser(x, levels[1][i], levels[2][i]), k, x).prev_sample
        trajectory.append(x)
    return case(solver, scheduler, options, steps, levels, trajectory, note, noise=noise)


def ddim(solver, options, steps, note, eta):
    scheduler = DDIMScheduler(**BETAS, **TRAILING, **options, clip_sample=False)
    levels = prepare(scheduler, steps)
    drawn = {"noise": draw_noise(steps)} if eta else {}
    x, trajectory = START, []
    for i, k in enumerate(scheduler.timesteps):
        eps = denoiser(x, levels[1][i], levels[2][i])
        x = scheduler.step(eps, k, x, eta=eta, variance_noise=drawn["noise"][i] if eta else None).prev_sample
        trajectory.append(x)
    return case(solver, scheduler, options, steps, levels, trajectory, note, eta=eta, **drawn)


def heun(solver, options, steps, note, start=0):
    scheduler = HeunDiscreteScheduler(**BETAS, **TRAILING, **options)
    levels = prepare(scheduler, steps)
    _, alphas, sigmas = levels
    scheduler.set_begin_index(2 * start)
    y, trajectory = START / alphas[start], []  # it keeps y = x / alpha
    for i in range(start, steps):
        # Two calls a step, at its first level and at its second; the step to sigma = 0 is one call.
        for j in (i, i + 1)[: 2 if i + 1 < steps else 1]:
            y = scheduler.step(denoiser(alphas[j] * y, alphas[j], sigmas[j]), scheduler.timesteps[i + j], y).prev_sample
        assert scheduler.state_in_first_order or i + 1 == steps
        trajectory.append(alphas[i + 1] * y)
    return case(solver, scheduler, options, steps, levels, trajectory, note, start)


def spy_on_orders(scheduler):
    """A list to which each step of DPMSolverMultistepScheduler adds its order."""
    orders = []
    names = ["dpm_solver_first_order", "multistep_dpm_solver_second_order", "multistep_dpm_solver_third_order"]
    for order, name in enumerate(names, 1):
        def update(*args, order=order, method=getattr(scheduler, name + "_update"), **named):
            orders.append(order)
            return method(*args, **named)
        setattr(scheduler, name + "_update", update)
    return orders


def multistep(kind, solver, options, steps, note):
    scheduler = kind(**BETAS, **TRAILING, **options)
    levels = prepare(scheduler, steps)
    orders = spy_on_orders(scheduler) if kind is DPMSolverMultistepScheduler else []
    x, trajectory = START, []
    for i, k in enumerate(scheduler.timesteps):
        x = scheduler.step(denoiser(x, levels[1][i], levels[2][i]), k, x).prev_sample
        trajectory.append(x)
        if kind is UniPCMultistepScheduler:
            orders.append(scheduler.this_order)
    return case(solver, scheduler, options, steps, levels, trajectory, note, orders=orders)


def dpmpp(*args):
    return multistep(DPMSolverMultistepScheduler, *args)


def unipc(*args):
    return multistep(UniPCMultistepScheduler, *args)


def ipndm(solver, options, steps, note):
    scheduler = IPNDMScheduler(**options)
    scheduler.set_timesteps(steps)
    # Its own levels are a cosine in alpha and sigma. Ours go in their place: what it calls "betas" are sigmas.
    times, alphas, sigmas = levels = prepare(DDIMScheduler(**BETAS, **TRAILING), steps)
    scheduler.alphas, scheduler.betas, scheduler.timesteps = alphas, sigmas, torch.tensor(times[:-1]) - 1
    x, trajectory, orders = START, [], []
    for i, k in enumerate(scheduler.timesteps):
        # It takes its input for v = alpha eps - sigma x0, from which it gets back eps = sigma x + alpha v.
        eps = denoiser(x, alphas[i], sigmas[i])
        v = (eps - sigmas[i] * x) / alphas[i]
        x = scheduler.step(v, k, x).prev_sample
        trajectory.append(x)
        orders.append(min(len(scheduler.ets), 4))
    return case(solver, scheduler, options, steps, levels, trajectory, note, orders=orders)


def edm_euler(solver, options, steps, note):
    scheduler = EDMEulerScheduler(**options)
    scheduler.set_timesteps(steps)
    sigmas, data, x, trajectory = scheduler.sigmas, scheduler.config.sigma_data, START * scheduler.sigmas[0], []
    for i, k in enumerate(scheduler.timesteps):
        # It takes what is left of D by its preconditioning (Karras et al. 2022, table 1).
        total = sigmas[i] ** 2 + data**2
        said = (clean(x, 1, sigmas[i]) - data**2 / total * x) / (sigmas[i] * data / total.sqrt())
        x = scheduler.step(said, k, x).prev_sample
        trajectory.append(x)
    levels = [*range(steps, -1, -1)], torch.ones(steps + 1), sigmas
    return {**case(solver, scheduler, options, steps, levels, trajectory, note), "start": START * sigmas[0]}


def flow_euler(solver, options, steps, note):
    scheduler = FlowMatchEulerDiscreteScheduler(**options)
    scheduler.set_timesteps(steps)
    sigmas, x, trajectory = scheduler.sigmas, START, []
    for i, k in enumerate(scheduler.timesteps):
        x0 = clean(x, 1 - sigmas[i], sigmas[i])
        x = scheduler.step((x - x0) / sigmas[i], k, x).prev_sample  # eps - x0 = (x - x0) / sigma
        trajectory.append(x)
    levels = [*range(steps, -1, -1)], 1 - sigmas, sigmas
    return case(solver, scheduler, options, steps, levels, trajectory, note)


def cases():
    small = ("Standard deviation of the posterior, sigma_s / sigma_t sqrt(1 - (alpha_t / alpha_s)^2). diffusers never "
             "lets the variance fall below 1e-20: its last step, to data, adds 1e-10 of noise where none belongs.")
    large = ("Standard deviation sqrt(1 - (alpha_t / alpha_s)^2): beta of the strided step, not the schedule's beta_t. "
             "diffusers leaves noise out only in a step from k = 0, so on these grids it adds noise of deviation "
             "sigma_t to the finished sample. The last step's noise is 0 here to keep that out.")
    for steps in (10, 20):
        yield ddpm("ddpm", {"variance_type": "fixed_small"}, steps, small, last_noise=1)
        yield ddpm("ddpm, large variance", {"variance_type": "fixed_large"}, steps, large, last_noise=0)

    for steps in (5, 10, 20):
        yield ddim("ddim", {"set_alpha_to_one": True}, steps, "", eta=0)
        yield ddim("ddim, eta 0.5", {"set_alpha_to_one": True}, steps, "The last step's noise has no effect.", eta=0.5)

    all_r = ("Every step is Heun's in y = x / alpha and r, but the last, which is Euler's. Our heun does the same only "
             "where r_from r_to <= 1; before, it walks the ODE's other form.")
    for steps in (10, 20):
        yield heun("heun", {}, steps, all_r)
    low_r = "r_from r_to <= 1 at every step, where our heun is the same method. The steps are those of a longer grid."
    yield heun("heun", {}, 20, low_r, start=15)
    yield heun("heun", {}, 50, low_r, start=37)

    dpm = {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "final_sigmas_type": "zero",
           "euler_at_final": False}
    ending = ("euler_at_final changes nothing: the step to sigma = 0 has order 1 anyway. lower_order_final bounds the "
              "order of the last step but one by 2, with fewer than 15 steps only.")
    for steps in (5, 10, 20):
        yield dpmpp("dpmpp-2m", {**dpm, "solver_order": 2, "lower_order_final": True}, steps, ending)
        yield dpmpp("dpmpp-3m", {**dpm, "solver_order": 3, "lower_order_final": True}, steps, ending)
    for steps in (5, 10):  # 20 steps would give the same numbers as above
        yield dpmpp("dpmpp-3m, high order to the end", {**dpm, "solver_order": 3, "lower_order_final": False}, steps,
                    "Without lower_order_final only the step to sigma = 0 has a lower order.")

    uni = {"solver_type": "bh2", "predict_x0": True, "final_sigmas_type": "zero", "lower_order_final": True}
    falling = ("orders are the predictor's; step i (from 0) has min(solver_order, i + 1, steps - i), however many "
               "steps. Each step but the first begins by correcting x with the order of the step before; the "
               "trajectory holds x as steps return it, before that correction.")
    for steps in (5, 10, 20):
        for order in (2, 3):
            yield unipc(f"unipc-{order}", {**uni, "solver_order": order}, steps, falling)

    uniform = ("IPNDMScheduler has its own levels; its tables were replaced by ours, and it was given v. It is then "
               "Adams-Bashforth in y = x / alpha and r with the coefficients for equal steps, although those in r are "
               "not equal: orders 1, 2, 3, then 4, up to and with the step to sigma = 0.")
    for steps in (5, 10, 20):
        yield ipndm("ipndm", {}, steps, uniform)


    edm = "Levels are its own: alpha 1, sigma from 80 to 0.002 with rho 7, then 0; times only count the steps."
    for steps in (5, 18):
        yield edm_euler("euler, edm", {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}, steps, edm)
    straight = "Levels are its own: alpha 1 - sigma, sigma from 1, where alpha is 0; times only count the steps."
    for shift in (1.0, 3.0):
        yield flow_euler(f"euler, flow, shift {shift:g}", {"shift": shift}, 10, straight)


def plain(value):
    """Tensors as lists, numbers to 12 digits."""
    if torch.is_tensor(value):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(v) for v in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def main():
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    # The schedulers name single precision in their tables (betas, sigmas), and DPM-Solver's step casts x to it: an
    # error of 1e-7 that is not the method's, and that large r multiplies. While they are made and run, that name means
    # double precision; integer tables and everything else are theirs.
    with mock.patch.object(torch, "float32", torch.float64), mock.patch.object(np, "float32", np.float64):
        rows = [{key: plain(value) for key, value in row.items()} for row in cases()]
    head = {
        "made_with": {"diffusers": diffusers.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "schedule": {"kind": "linear", "steps": 1000},
        "denoiser": {"means": plain(MEANS), "weights": plain(WEIGHTS), "deviation": DEVIATION},
    }
    lines = [json.dumps(key) + ": " + json.dumps(value) for key, value in head.items()]
    table = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    path = pathlib.Path(__file__).with_name("solvers.json")
    path.write_text("{" + ",\n".join(lines) + ',\n"cases": [\n' + table + "\n]}\n")


if __name__ == "__main__":
    main()
