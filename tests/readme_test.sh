#!/usr/bin/env bash
# Runs every command of the README and of docs/using.md, in their order, in a folder where the demo's run is a small one,
# then the trainings of docs/presets.md and the examples of every command's help:  tests/readme_test.sh PATH/TO/diffuse [few]
# few: those of the main job alone, for a build that is tested whole elsewhere
set -euo pipefail
diffuse=$(realpath "$1")
project=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir bin
cat >bin/diffuse <<END
#!/usr/bin/env bash
# Training and whole test sets are cut down: what is tested is that each command does what it says.
if [ "\$1" = train ]; then
    data="--set dataset.kind=digits --set dataset.limit=100"
    case "\$*" in *images.json*) data= ;; esac # these are its own
    case "\$*" in *toy-*) exec "$diffuse" "\$@" --set dataset.limit=2000 --set train.steps=40 --threads 1 ;; esac
    exec "$diffuse" "\$@" \$data --set train.steps=4 --set train.batch_size=8 \\
        --set train.sample_every=0 --set model.base_channels=8 --threads 1
fi
set -- "\${@//mnist:test/digits:test}"
case "\$*" in
    *--analytic*) set -- "\$@" --set dataset.kind=digits --set dataset.limit=20 --steps 4 ;;
    *fisher* | *c2st*) set -- "\$@" --num 100 ;;
    *nll*) set -- "\$@" --ode-steps 2 ;;
    *sbc*) set -- "\$@" --num 40 --steps 4 ;;
esac
exec "$diffuse" "\${@/#256/16}"
END
chmod +x bin/diffuse
export PATH=$folder/bin:$PATH
cp -r "$project/configs" .
mkdir photos # grey ones of 40x36
python3 - <<'END'
import struct, zlib
def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
for i in range(8):
    rows = b''.join(b'\0' + bytes((x * i + y) % 256 for x in range(36)) for y in range(40))
    open(f'photos/{i}.png', 'wb').write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 36, 40, 8, 0, 0, 0, 0)) +
                                         chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
END
export XDG_CACHE_HOME=$folder/cache
diffuse train --config configs/demo.json >/dev/null 2>&1
cp -r runs/demo runs/mnist

# PAGE...: the commands of blocks, "$ diffuse ...", and of README's table, "| I want to ... | `diffuse ...` | page |", each once
commands_of() {
    (cd "$project" && cat "$@") | sed -nE 's/^(\$ |\|.*\| `)(diffuse [^`]*).*/\2/p' | awk '!seen[$0]++'
}
commands=$(commands_of README.md docs/using.md)
[ "$(grep -c . <<<"$commands")" -ge 20 ] || { echo "the pages show fewer commands than they did" >&2; exit 1; }
run_all() { # COMMANDS: a line each
    while read -r command; do
        echo "\$ $command"
        bash -c "$command" </dev/null 2>stderr.txt || { cat stderr.txt >&2; echo "FAILED: $command" >&2; exit 1; }
    done <<<"$1"
}
if [ "${2:-}" = few ]; then
    run_all "$(grep -E '^diffuse (train --config configs/demo.json|sample --checkpoint runs/demo --out|encode|info)' <<<"$commands")"
    exit
fi
run_all "$commands"
run_all "$(commands_of docs/presets.md)"

# in a folder of their own, since they make the same runs
mkdir examples
cp -r configs examples
cd examples
examples=$(for command in "" train sample encode eval info lab help completion; do
    # shellcheck disable=SC2086  # none, for the program itself
    "$diffuse" help $command | sed -n '/^Examples:/,$s/^  \(diffuse .*\)/\1/p'
done)
run_all "$examples" >output.txt
cd ..

# every preset is a valid config
for config in configs/*.json; do
    data="--set dataset.kind=digits --set dataset.limit=100"
    case "$config" in configs/toy-*) data= ;; esac
    [ "$config" = configs/images.json ] && data="--set dataset.dir=photos"
    # shellcheck disable=SC2086  # two words
    "$diffuse" train --config "$config" --dry-run --out fresh $data >/dev/null 2>stderr.txt || { cat stderr.txt >&2; exit 1; }
done

# the page of keys is the program's own
"$project/scripts/keys-table" "$diffuse" config.md
diff "$project/docs/config.md" config.md >&2 || { echo "FAILED: docs/config.md is old: scripts/keys-table" >&2; exit 1; }
