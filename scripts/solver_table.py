"""Writes the tables of docs/solvers.md, between its markers, and its plot, from what scripts/solver-table or
scripts/combination-table measured.

    python3 scripts/solver_table.py RESULTS solvers.md [solvers.svg]

RESULTS holds the JSON of `diffuse eval`: fid-SOLVER.json and roundtrip-SOLVER.json, or combination-PREDICTION-SCHEDULE.json.
Needs nothing but Python.
"""
import json
import math
import pathlib
import re
import sys

NFES = [5, 10, 20, 50]
SPACINGS = ["uniform", "quadratic", "log-snr", "karras"]
STEPS = [10, 20, 50, 100, 200]
COLOURS = ["#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b", "#b79a20", "#b279a2", "#ff9da6", "#9d755d", "#555555", "#1f9ed0",
           "#8cd17d"]


def load(folder, kind):
    """{solver: JSON} in the order of the table of solvers."""
    order = ["ddpm", "ddpm-upper", "euler", "heun", "rk4", "ipndm", "dpm-2", "dpm-3", "dpmpp-2m", "dpmpp-3m", "unipc", "reversible"]
    files = {path.stem.removeprefix(kind + "-"): path for path in pathlib.Path(folder).glob(f"{kind}-*.json")}
    return {solver: json.loads(files[solver].read_text()) for solver in order if solver in files}


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def fid_values(results):
    """{(solver, spacing): FID at each of NFES}; the rows come in the order in which they were asked for."""
    values = {}
    for solver, result in results.items():
        numbers = iter(row["fid"] for row in result["rows"])
        for spacing in SPACINGS:
            values[solver, spacing] = [next(numbers) for _ in NFES]
    return values


def fid_table(results):
    values = fid_values(results)
    best = [min(row[i] for row in values.values()) for i in range(len(NFES))]
    shown = lambda i, fid: f"**{fid:.1f}**" if fid == best[i] else f"{fid:.1f}"
    rows = [[solver, spacing] + [shown(i, fid) for i, fid in enumerate(row)] for (solver, spacing), row in values.items()]
    first = next(iter(results.values()))
    note = f"{first['samples']} images each, from the same noise; the floor, as many training images, is {first['floor']:.1f}."
    return note + "\n\n" + markdown(["solver", "spacing"] + [f"NFE {nfe}" for nfe in NFES], rows)


def roundtrip_table(results):
    rows = []
    for solver, result in results.items():
        by_steps = {row["steps"]: row for row in result["rows"]}
        rows.append([solver] + [f"{by_steps[steps]['mse']:.2g}" for steps in STEPS] + [f"{by_steps[50]['latent_std']:.2f}"])
    return markdown(["solver"] + [str(steps) for steps in STEPS] + ["latents' deviation at 50"], rows)


def combination_table(results):
    """A row for each network, a column for each solver."""
    first = next(iter(results.values()))
    rows = [name.split("-", 1) + [f"{row['fid']:.1f}" for row in result["rows"]] for name, result in results.items()]
    note = f"{first['samples']} images each in at most 40 evaluations, from the same noise; the floor, as many training images, is {first['floor']:.1f}."
    return note + "\n\n" + markdown(["prediction", "schedule"] + [row["solver"] for row in first["rows"]], rows)


def load_combinations(folder):
    """{"eps-linear": JSON} in the order of scripts/combination-table."""
    names = [f"{prediction}-{schedule}" for prediction in ("eps", "v", "x0")
             for schedule in ("linear", "scaled-linear", "cosine", "sigmoid", "polynomial")]
    files = {name: pathlib.Path(folder) / f"combination-{name}.json" for name in names}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def plot(results):
    """Four panels, one a spacing: FID against NFE, both on logarithmic axes."""
    values, width, height, left, top = fid_values(results), 330, 240, 46, 30
    low, high = (f(fid for row in values.values() for fid in row) for f in (min, max))
    high = min(high, 8 * low)  # beyond it nothing is worth telling apart
    x_of = lambda nfe: math.log(nfe / NFES[0]) / math.log(NFES[-1] / NFES[0]) * (width - left - 14)
    y_of = lambda fid: (1 - math.log(min(fid, high) / low) / math.log(high / low)) * (height - top - 34)
    solvers = list(results)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width + 130}" height="{2 * height}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>']
    ticks = [tick for tick in (5, 10, 20, 30, 50, 100, 200, 500, 1000) if low <= tick <= high]
    for panel, spacing in enumerate(SPACINGS):
        out.append(f'<g transform="translate({panel % 2 * width + left},{panel // 2 * height + top})">')
        out.append(f'<text x="{(width - left) / 2}" y="-10" text-anchor="middle" font-weight="bold">{spacing}</text>')
        for nfe in NFES:
            out.append(f'<line x1="{x_of(nfe):.1f}" x2="{x_of(nfe):.1f}" y1="0" y2="{y_of(low):.1f}" stroke="#eee"/>'
                       f'<text x="{x_of(nfe):.1f}" y="{y_of(low) + 15:.1f}" text-anchor="middle">{nfe}</text>')
        for tick in ticks:
            out.append(f'<line x1="0" x2="{x_of(NFES[-1]):.1f}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}" stroke="#eee"/>'
                       f'<text x="-6" y="{y_of(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
        for solver, colour in zip(solvers, COLOURS):
            points = " ".join(f"{x_of(nfe):.1f},{y_of(fid):.1f}" for nfe, fid in zip(NFES, values[solver, spacing]))
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        out.append("</g>")
    for i, (solver, colour) in enumerate(zip(solvers, COLOURS)):
        y = top + 18 * i
        out.append(f'<line x1="{2 * width + 10}" x2="{2 * width + 30}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>'
                   f'<text x="{2 * width + 36}" y="{y + 4}">{solver}</text>')
    return "\n".join(out + [f'<text x="{width}" y="{2 * height - 6}" text-anchor="middle">network evaluations (NFE); upwards: FID</text>', "</svg>\n"])


def main(folder, page, picture=None):
    if combinations := load_combinations(folder):
        return write(page, {"combinations": combination_table(combinations)})
    fid, roundtrip = load(folder, "fid"), load(folder, "roundtrip")
    write(page, {"fid": fid_table(fid), "roundtrip": roundtrip_table(roundtrip)})
    pathlib.Path(picture).write_text(plot(fid))


def write(page, tables):
    text = pathlib.Path(page).read_text()
    for name, table in tables.items():
        text, found = re.subn(f"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m: m[1] + table + "\n" + m[2], text, flags=re.S)
        assert found == 1, f"{page} has no place for the table {name}"
    pathlib.Path(page).write_text(text)


main(*sys.argv[1:])
