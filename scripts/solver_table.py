"""Writes one table of docs/solvers.md, between its markers, from what scripts/measure kept; with the table "fid" its
plot too, beside the page.

    python3 scripts/solver_table.py fid|spacings|roundtrip|combinations docs/solvers.md RESULT.json...

A row, or some rows, for each file, in their order. Needs nothing but Python.
"""
import json
import math
import pathlib
import re
import sys

COLOURS = ["#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b", "#b79a20", "#b279a2", "#ff9da6", "#9d755d", "#555555",
           "#1f9ed0", "#8cd17d"]


def markdown(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def fid_rows(results):
    """({(solver, spacing): its rows by rising NFE}, the NFEs that were asked for)."""
    rows = {}
    for row in (row for result in results.values() for row in result["rows"]):
        rows.setdefault((row["solver"], row["spacing"]), []).append(row)
    return rows, [max(row["nfe"] for row in column) for column in zip(*rows.values())]  # some solvers take fewer


def fid_table(results):
    rows, nfes = fid_rows(results)
    best = [min(row["fid"] for row in column) for column in zip(*rows.values())]
    shown = lambda row, least: f"**{row['fid']:.1f}**" if row["fid"] == least else f"{row['fid']:.1f}"
    lines = [[*names] + [shown(*pair) for pair in zip(entries, best)] for names, entries in rows.items()]
    return note(results, "each") + markdown(["solver", "spacing"] + [f"NFE {nfe}" for nfe in nfes], lines)


def spacings_table(results):
    """A row for each solver, a column for each spacing."""
    rows, _ = fid_rows(results)
    solvers, spacings = ([*dict.fromkeys(names)] for names in zip(*rows))
    entry = lambda solver, spacing: f"{rows[solver, spacing][0]['fid']:.1f}" if (solver, spacing) in rows else ""
    lines = [[solver] + [entry(solver, spacing) for spacing in spacings] + [str(rows[solver, spacings[0]][0]["nfe"])]
             for solver in solvers]
    return note(results, "each") + markdown(["solver", *spacings, "NFE"], lines)


def roundtrip_table(results):
    rows = [[result["rows"][0]["solver"]] + [f"{row['mse']:.2g}" for row in result["rows"]] +
            [f"{row['latent_std']:.2f}" for row in result["rows"] if row["steps"] == 50] for result in results.values()]
    steps = [str(row["steps"]) for row in first(results)["rows"]]
    return markdown(["solver"] + steps + ["latents' standard deviation at 50"], rows)


def combinations_table(results):
    """A row for each network, whose run folder is named PREDICTION-SCHEDULE, a column for each solver."""
    rows = [name.split("-", 1) + [f"{row['fid']:.1f}" for row in result["rows"]] for name, result in results.items()]
    solvers = [row["solver"] for row in first(results)["rows"]]
    return note(results, "each in at most 40 evaluations") + markdown(["prediction", "schedule"] + solvers, rows)


def first(results):
    return next(iter(results.values()))


def note(results, each):
    one = first(results)
    return (f"{one['samples']} images {each}, from the same noise; the floor, as many training images, is "
            f"{one['floor']:.1f}.\n\n")


def plot(results):
    """Four panels, one a spacing: FID against NFE, both on logarithmic axes."""
    (rows, nfes), width, height, left, top = fid_rows(results), 330, 240, 46, 30
    solvers, spacings = ([*dict.fromkeys(names)] for names in zip(*rows))
    low, high = (f(row["fid"] for entries in rows.values() for row in entries) for f in (min, max))
    high = min(high, 8 * low)  # beyond it nothing is worth telling apart
    x_of = lambda nfe: math.log(nfe / nfes[0]) / math.log(nfes[-1] / nfes[0]) * (width - left - 14)
    y_of = lambda fid: (1 - math.log(min(fid, high) / low) / math.log(high / low)) * (height - top - 34)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * width + 130}" height="{2 * height}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>']
    ticks = [tick for tick in (5, 10, 20, 30, 50, 100, 200, 500, 1000) if low <= tick <= high]
    for panel, spacing in enumerate(spacings):
        out.append(f'<g transform="translate({panel % 2 * width + left},{panel // 2 * height + top})">')
        out.append(f'<text x="{(width - left) / 2}" y="-10" text-anchor="middle" font-weight="bold">{spacing}</text>')
        for nfe in nfes:
            out.append(f'<line x1="{x_of(nfe):.1f}" x2="{x_of(nfe):.1f}" y1="0" y2="{y_of(low):.1f}" stroke="#eee"/>'
                       f'<text x="{x_of(nfe):.1f}" y="{y_of(low) + 15:.1f}" text-anchor="middle">{nfe}</text>')
        for tick in ticks:
            out.append(f'<line x1="0" x2="{x_of(nfes[-1]):.1f}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}" stroke="#eee"/>'
                       f'<text x="-6" y="{y_of(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
        for solver, colour in zip(solvers, COLOURS):
            points = " ".join(f"{x_of(nfe):.1f},{y_of(row['fid']):.1f}" for nfe, row in zip(nfes, rows[solver, spacing]))
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        out.append("</g>")
    for i, (solver, colour) in enumerate(zip(solvers, COLOURS)):
        y = top + 18 * i
        out.append(f'<line x1="{2 * width + 10}" x2="{2 * width + 30}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="3"/>'
                   f'<text x="{2 * width + 36}" y="{y + 4}">{solver}</text>')
    return "\n".join(out + [f'<text x="{width}" y="{2 * height - 6}" text-anchor="middle">network evaluations (NFE); upwards: FID</text>', "</svg>\n"])


def main(name, page, *files):
    page = pathlib.Path(page)
    results = {pathlib.Path(file).stem.rsplit("-", 1)[0] if name == "combinations" else file:
               json.loads(pathlib.Path(file).read_text()) for file in files}
    table = {"fid": fid_table, "spacings": spacings_table, "roundtrip": roundtrip_table, "combinations": combinations_table}[name](results)
    text, found = re.subn(f"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m: m[1] + table + "\n" + m[2],
                          page.read_text(), flags=re.S)
    assert found == 1, f"{page} has no place for the table {name}"
    page.write_text(text)
    if name == "fid":
        page.with_suffix(".svg").write_text(plot(results))


main(*sys.argv[1:])
