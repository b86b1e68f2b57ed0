"""Writes one table of docs/solvers.md, between its markers, from what scripts/measure kept; with the table "fid" its
plot too, beside the page.

    python3 scripts/solver_table.py fid|spacings|roundtrip|combinations docs/solvers.md RESULT.json...

A row, or some rows, for each file, in their order. The plot is gnuplot's.
"""
import json
import pathlib
import re
import subprocess
import sys


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
    best = [min(column, key=lambda row: row["fid"]) for column in zip(*rows.values())]
    shown = lambda row, least: f"**{row['fid']:.1f}**" if is_alike(row, least) else f"{row['fid']:.1f}"
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
    worst = max(row["fid_se"] / row["fid"] for result in results.values() for row in result["rows"])
    return (f"{one['samples']} images {each}, from the same noise; the floor, as many training images, is "
            f"{one['floor']:.1f} ± {one['floor_se']:.1f}.\nOne standard error is at most {100 * worst:.0f}% of a distance.\n\n")


def is_alike(row, best):
    """Not told from the best one: within twice the standard error of the difference."""
    return row["fid"] - best["fid"] <= 2 * (row["fid_se"] ** 2 + best["fid_se"] ** 2) ** 0.5


def plot(results, svg):
    """A panel for each spacing, by gnuplot: FID against NFE, both on logarithmic axes."""
    rows, nfes = fid_rows(results)
    solvers, spacings = ([*dict.fromkeys(names)] for names in zip(*rows))
    low, high = (f(row["fid"] for entries in rows.values() for row in entries) for f in (min, max))
    blocks, panels = [], []
    for spacing in spacings:
        curves = []
        for i, solver in enumerate(solvers):
            blocks.append("\n".join(f"{nfe} {row['fid']}" for nfe, row in zip(nfes, rows[solver, spacing])))
            curves.append(f"$data index {len(blocks) - 1} with lines linetype {i + 1} title '{solver}'")
        panels.append(f"set title '{spacing}'\nplot {', '.join(curves)}")
    script = "\n".join([
        "$data << END", "\n\n\n".join(blocks), "END",
        f"set terminal svg noenhanced size 1120,1000 font 'Helvetica,15' background rgb 'white'\nset output '{svg}'",
        "set linetype cycle 12\ndo for [i=1:12] { set linetype i linewidth 2 linecolor rgb word('#0072B2 #D55E00 #009E73 "
        "#CC79A7 #E69F00 #56B4E9 #000000 #888888 #332288 #AA4499 #44AA99 #882255', i) }",
        # beyond eight times the best nothing is worth telling apart
        f"set logscale xy\nset xrange [{0.9 * nfes[0]}:{1.1 * nfes[-1]}]\nset yrange [{0.95 * low}:{min(high, 8 * low)}]",
        f"set xtics ({', '.join(map(str, nfes))})\nset ytics (5, 10, 20, 30, 50, 100, 200, 500)",
        "set xlabel 'network evaluations (NFE)'\nset ylabel 'FID'\nset grid linecolor rgb '#dddddd'\nset key below",
        f"set multiplot layout {-(-len(spacings) // 2)},2", *panels, "unset multiplot\n"])
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


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
        plot(results, page.with_suffix(".svg"))


main(*sys.argv[1:])
