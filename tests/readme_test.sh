#!/usr/bin/env bash
# Runs every command of the README that begins with "diffuse", in its order, in a folder where the demo's run is a
# small one, and then the examples of every command's help:  tests/readme_test.sh PATH/TO/diffuse
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
    exec "$diffuse" "\$@" --set dataset.kind=digits --set dataset.limit=100 --set train.steps=4 --set train.batch_size=8 \\
        --set train.sample_every=0 --set model.base_channels=8 --threads 1
fi
set -- "\${@//mnist:test/digits:test}"
exec "$diffuse" "\${@/#256/16}"
END
chmod +x bin/diffuse
export PATH=$folder/bin:$PATH
cp -r "$project/configs" .
diffuse train --config configs/demo.json >/dev/null 2>&1
cp -r runs/demo runs/mnist

commands=$(sed -n 's/^\$ \(diffuse .*\)/\1/p' "$project/README.md")
[ "$(grep -c . <<<"$commands")" -ge 4 ] || { echo "the README shows fewer commands than there are subcommands" >&2; exit 1; }
run_all() { # COMMANDS: a line each
    while read -r command; do
        echo "\$ $command"
        bash -c "$command" </dev/null 2>stderr.txt || { cat stderr.txt >&2; echo "FAILED: $command" >&2; exit 1; }
    done <<<"$1"
}
run_all "$commands"

# in a folder of their own, since they make the same runs
mkdir examples
cp -r configs examples
cd examples
examples=$(for command in "" train sample encode eval info help completion; do
    # shellcheck disable=SC2086  # none, for the program itself
    "$diffuse" help $command | sed -n '/^Examples:/,$s/^  \(diffuse .*\)/\1/p'
done)
run_all "$examples" >output.txt
cd ..

# every preset is a valid config
for config in configs/*.json; do
    "$diffuse" train --config "$config" --dry-run --out fresh --set dataset.kind=digits >/dev/null 2>stderr.txt || { cat stderr.txt >&2; exit 1; }
done

# the README's table of keys is the program's own
cp "$project/README.md" README.md
"$project/scripts/keys-table" "$diffuse" README.md
diff "$project/README.md" README.md >&2 || { echo "FAILED: the table of keys is old: scripts/keys-table" >&2; exit 1; }
