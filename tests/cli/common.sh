# What the tests of the command line share. Each is a script of its own, so that they run side by side:
#   tests/cli/NAME_test.sh PATH/TO/diffuse
set -euo pipefail
diffuse=$(realpath "$1")
project=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
top=$(mktemp -d)  # the commands run in a folder of it, beside which their output is kept
folder=$top/work
trap 'rm -rf "$top"' EXIT
mkdir "$folder"
cd "$folder"
export XDG_CACHE_HOME=$top/cache

fail() { echo "FAILED: $*" >&2; exit 1; }
# expect_error CODE PATTERN ARGUMENT...: exit code, one line on stderr that matches, nothing on stdout, no new file
expect_error() {
    local code=$1 pattern=$2 before after status=0
    shift 2
    before=$(find . | sort)
    "$diffuse" "$@" >"$top/out" 2>"$top/err" || status=$?
    after=$(find . | sort)
    local out err
    out=$(cat "$top/out") err=$(cat "$top/err")
    [ "$status" -eq "$code" ] || fail "diffuse $* exited $status, expected $code: $err"
    [ "$(wc -l <<<"$err")" -eq 1 ] || fail "diffuse $* printed more than one line: $err"
    grep -qE -- "$pattern" <<<"$err" || fail "diffuse $*: '$pattern' is not in: $err"
    [ -z "$out" ] || fail "diffuse $* printed to stdout: $out"
    [ "$before" = "$after" ] || fail "diffuse $* left files behind: $after"
}
train() { "$diffuse" train --config tiny.json --threads 1 "$@"; }
# FILE NAME: the shape of a tensor
tensors() {
    python3 -c "
import json, struct, sys
data = open(sys.argv[1], 'rb').read()
print(*json.loads(data[8:8 + struct.unpack('<Q', data[:8])[0]])[sys.argv[2]]['shape'], sep=',')" "$@"
}
json() { python3 -c "import json,sys; print(json.load(sys.stdin)$1)"; }

# a network that is trained within a second on digits that the program draws
cat >tiny.json <<'END'
{"dataset": {"kind": "digits", "limit": 200},
 "model": {"base_channels": 8, "channel_multipliers": [1, 2], "attention_resolutions": [7], "patch_size": 2},
 "train": {"steps": 30, "batch_size": 16, "warmup_steps": 5, "log_every": 10, "sample_every": 15, "checkpoint_every": 15}}
END

# runs/tiny, or another folder with other settings
make_tiny() { train "$@" >/dev/null 2>err.txt || fail "training: $(cat err.txt)"; }

# MNIST's four files with few images of noise, since a distance looks at all images of the test set
make_mnist() {
    python3 - <<'END'
import os, random, struct
os.mkdir('mnist')
for part in 'train', 't10k':
    open(f'mnist/{part}-images-idx3-ubyte', 'wb').write(struct.pack('>IIII', 0x803, 200, 28, 28) + random.Random(0).randbytes(200 * 28 * 28))
    open(f'mnist/{part}-labels-idx1-ubyte', 'wb').write(struct.pack('>II', 0x801, 200) + bytes(i % 10 for i in range(200)))
END
}
