"""Does every experiment of the lab and compares docs/lab.md with what it says; then opens the page in a real browser, at
the widths of a telephone and of a desk, in light and in dark:  python3 tests/page_test.py PATH/TO/diffuse

Exits with 77 (skipped) where there is no Chromium for the second part.
"""
import html
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
WRAPPER = """<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>waiting</title>
<iframe id="page" style="border:0; height:4000px; width:{width}px" srcdoc="{page}"></iframe>
<script>onload = () => {{
  const inside = document.getElementById("page").contentDocument, root = inside.documentElement;
  const colour = (name) => inside.defaultView.getComputedStyle(inside.querySelector(name)).color;
  document.title = JSON.stringify({{
    "wanted": root.scrollWidth, "width": root.clientWidth, "images": inside.images.length,
    "broken": [...inside.images].filter((image) => !image.complete || image.naturalWidth == 0).length,
    "back": inside.defaultView.getComputedStyle(inside.body).backgroundColor,
    "colours": ["body", "a", "td.good", "figcaption"].map(colour)}});
}};</script>"""


def facts(page):
    """{(section, what): (expected, source)} of a page of Markdown. What was measured may differ in its last digits."""
    found, section = {}, ""
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if line.startswith("## "):
            section = line[3:]
        elif len(cells) == 5 and cells[0] not in ("what", "---"):
            found[section, cells[0]] = (cells[2], cells[4])
    return found


def luminance(colour):
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """WCAG 2.1: readable from 4.5 on."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def look(browser, folder, page, width, dark):
    """What a browser of this width says of the page."""
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER.format(width=width, page=html.escape(page)))
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width + 100},4200",
         f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=20000", "--dump-dom", wrapper.as_uri()],
        capture_output=True, text=True, timeout=120, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not said, said
    return json.loads(html.unescape(re.search("<title>(.*?)</title>", done.stdout)[1]))


def check_page(browser, folder, page):
    for width in (400, 1400):
        for dark in (False, True):
            seen = look(browser, folder, page, width, dark)
            where = f"{width} pixels, {'dark' if dark else 'light'}: {seen}"
            assert seen["wanted"] <= seen["width"], f"the page is wider than the window, {where}"
            assert seen["images"] >= 15 and seen["broken"] == 0, where
            assert (luminance(seen["back"]) < 0.1) == dark, f"not of that scheme, {where}"
            for colour in seen["colours"]:
                assert contrast(colour, seen["back"]) >= 4.5, f"{colour} cannot be read, {where}"


def main(diffuse):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        said = subprocess.run([diffuse, "lab", "all", "--markdown", "--out", str(folder / "lab")], capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        documented, found = facts((ROOT / "docs/lab.md").read_text()), facts(said.stdout)
        assert len(found) >= 100, f"{len(found)} checks"
        assert all(source for _, source in found.values()), "a check without its source"
        different = sorted({*documented.items()} ^ {*found.items()})
        assert not different, f"docs/lab.md is not what `diffuse lab all --markdown` prints: {different[:3]}"
        page = (folder / "lab/lab.html").read_text()
        for address in re.findall(r'(?:src|href)="([^"]{0,40})', page):
            assert address.startswith(("data:", "#")), f"the page needs another file: {address}"
        browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if not browser:
            print("no Chromium here, so no browser opened the page (Debian: apt-get install chromium)")
            sys.exit(77)
        check_page(browser, folder, page)
    print(f"{len(found)} checks are as docs/lab.md says, and the page can be read")


main(*sys.argv[1:])
