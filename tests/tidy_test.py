"""What keeps the project tidy: includes go downwards, the docs name what exists, lines are short, README is too. Prints
each fault on a line, and exits with 1 if there is any:  python3 tests/tidy_test.py
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = "base ops diffusion data plot nets solve train run measure lab cli".split()  # lowest first
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIG_KEY = r"(?:seed|(?:dataset|schedule|model|train|sample)\.\w+)"


def cpp_files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.?pp"))]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def layer_of(path):
    parts = path.relative_to(ROOT).parts
    return parts[2] if parts[0] == "include" else parts[1]


def layer_faults():
    """An include of a higher layer, or of another layer's private header."""
    for path in cpp_files("include", "src"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'#include "(diffuse/)?(\w+)/', line)
            if not found:
                continue
            public, layer, own = found[1], found[2], layer_of(path)
            if layer not in LAYERS or own not in LAYERS:
                yield f"{name_of(path)}:{number}: {layer if own in LAYERS else own} is not a layer"
            elif not public and layer != own:
                yield f"{name_of(path)}:{number}: a header that belongs to {layer} alone"
            elif LAYERS.index(layer) > LAYERS.index(own):
                yield f"{name_of(path)}:{number}: {own} includes {layer}, which is above it"


def prose(page):
    """(number, line) of what is neither a table nor a block of code."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            inside = not inside
        elif not inside and not line.startswith(("|", "    ")):
            yield number, line


def names_in(page):
    """(line number, name) of what stands in backticks outside blocks of code."""
    text = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), page.read_text(), flags=re.S | re.M)
    for found in re.finditer(r"`([^`]+)`", text):
        yield text.count("\n", 0, found.start()) + 1, found[1]


def is_path(name):
    """A path of the repository, without placeholders; what a run writes or a user brings is none."""
    return ((ROOT / name.split("/")[0]).is_dir() and "/" in name and not re.search(r"[ <\[{*$]|[A-Z]{2}", name)
            and not name.startswith(("runs/", "build/", "data/mnist")))


def is_code(name):
    """A C++ identifier with _, ::, () or CamelCase."""
    return re.fullmatch(r"[A-Za-z_][\w:]*(\(\))?", name) and re.search(r"_|::|[a-z][A-Z]|\(\)", name)


def name_faults():
    """A path, a file, a key of the config or a name of the code in the docs that is not there."""
    folders = [ROOT / folder for folder in ("src", "include", "scripts", "tests", "cmake")]
    sources = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    words = {word for path in sources if path != pathlib.Path(__file__).resolve()
             for word in re.findall(r"\w+", path.read_text(errors="ignore"))}
    keys = set(re.findall(rf"^\| `({CONFIG_KEY})` \|", (ROOT / "docs/config.md").read_text(), re.M))
    for page in PAGES:
        for number, name in names_in(page):
            if is_path(name):
                there = (ROOT / name).exists()
            elif re.fullmatch(r"\w+\.[ch]pp", name):
                there = any(path.name == name for path in sources)
            elif re.fullmatch(CONFIG_KEY, name):
                there = name in keys
            else:
                there = not is_code(name) or all(word in words for word in re.findall(r"\w+", name))
            if not there:
                yield f"{name_of(page)}:{number}: there is no `{name}`"


def length_faults():
    """A line of the docs of more than 120 columns, and a README of more than 150 lines."""
    for page in PAGES:
        for number, line in prose(page):
            if len(line) > 120:
                yield f"{name_of(page)}:{number}: {len(line)} columns, expected at most 120"

    lines = len((ROOT / "README.md").read_text().splitlines())
    if lines > 150:
        yield f"README.md: {lines} lines, expected at most 150: it is for a reader in a hurry"


faults = [*layer_faults(), *name_faults(), *length_faults()]
print(*faults, sep="\n", end="\n" if faults else "")
sys.exit(bool(faults))
