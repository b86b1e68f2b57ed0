#!/usr/bin/env bash
# The command line from end to end, on digits that the program draws:  tests/cli_test.sh PATH/TO/diffuse
set -euo pipefail
diffuse=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() { echo "FAILED: $*" >&2; exit 1; }
# expect_error CODE PATTERN ARGUMENT...: exit code, one line on stderr that matches, nothing on stdout, no new file
expect_error() {
    local code=$1 pattern=$2 before after status=0
    shift 2
    before=$(find . | sort)
    "$diffuse" "$@" >/tmp/out.$$ 2>/tmp/err.$$ || status=$?
    after=$(find . | sort)
    local out err
    out=$(cat /tmp/out.$$) err=$(cat /tmp/err.$$)
    rm -f /tmp/out.$$ /tmp/err.$$
    [ "$status" -eq "$code" ] || fail "diffuse $* exited $status, expected $code: $err"
    [ "$(wc -l <<<"$err")" -eq 1 ] || fail "diffuse $* printed more than one line: $err"
    grep -qE -- "$pattern" <<<"$err" || fail "diffuse $*: '$pattern' is not in: $err"
    [ -z "$out" ] || fail "diffuse $* printed to stdout: $out"
    [ "$before" = "$after" ] || fail "diffuse $* left files behind: $after"
}
json() { python3 -c "import json,sys; print(json.load(sys.stdin)$1)"; }

cat >tiny.json <<'END'
{"dataset": {"kind": "digits", "limit": 200},
 "model": {"base_channels": 16, "channel_multipliers": [1, 2], "attention_resolutions": [7], "patch_size": 2},
 "train": {"steps": 30, "batch_size": 16, "warmup_steps": 5, "log_every": 10, "sample_every": 15, "checkpoint_every": 15}}
END

# help and version
"$diffuse" --version | grep -q '^diffuse .*LibTorch' || fail version
for command in "" train sample encode; do "$diffuse" $command --help | grep -q -- --help || fail "help of $command"; done

# training: a plan without files, then the run folder
"$diffuse" train --config tiny.json --dry-run --set train.steps=7 2>/dev/null | json "['train']['steps']" | grep -qx 7 || fail dry-run
[ ! -e runs ] || fail "--dry-run wrote files"
out=$("$diffuse" train --config tiny.json --seed 3 2>/dev/null)
[ "$out" = "$folder/runs/tiny" ] || fail "train printed: $out"
for file in config.json metrics.jsonl checkpoint.safetensors samples/step-0000015.png samples/step-0000030.png; do
    [ -s "runs/tiny/$file" ] || fail "no runs/tiny/$file"
done
[ "$(json "['seed']" <runs/tiny/config.json)" = 3 ] || fail "the seed is not in the resolved config"
[ "$(wc -l <runs/tiny/metrics.jsonl)" = 3 ] || fail "metrics.jsonl has not three lines"
expect_error 2 "already holds a run" train --config tiny.json
"$diffuse" train --config tiny.json --set train.steps=5 --force >/dev/null 2>&1 || fail --force
"$diffuse" train --config tiny.json --force >/dev/null 2>&1

# an interrupted training keeps what it learned
"$diffuse" train --config tiny.json --set train.steps=100000 --set train.sample_every=0 --out interrupted >/dev/null 2>&1 &
process=$!
while [ ! -s interrupted/metrics.jsonl ]; do
    kill -0 $process || fail "training died"
    sleep 0.1
done
kill -INT $process
status=0
wait $process || status=$?
[ $status = 130 ] || fail "SIGINT gave exit code $status"
[ -s interrupted/checkpoint.safetensors ] || fail "SIGINT left no checkpoint"

# sampling: every solver; the same pictures whatever the batch, the threads and the number
for solver in ddpm ddim heun; do
    "$diffuse" sample --checkpoint runs/tiny --solver $solver --steps 4 --num 5 --out $solver.png >out.txt 2>/dev/null || fail "sample $solver"
    [ "$(tail -n 1 out.txt)" = "$folder/$solver.png" ] || fail "sample did not print the path of its picture"
done
sample() { "$diffuse" sample --checkpoint runs/tiny --steps 4 --seed 7 "$@" --out s.png 2>/dev/null >/dev/null; }
sample --num 12 --threads 1 --save-tensors a.safetensors
sample --num 12 --threads 2 --batch 3 --save-tensors b.safetensors
cmp a.safetensors b.safetensors || fail "the pictures depend on --batch or --threads"
result=$("$diffuse" sample --checkpoint runs/tiny/checkpoint.safetensors --solver heun --steps 4 --num 3 --out s.png --json 2>/dev/null)
[ "$(json "['nfe']" <<<"$result")" = 7 ] || fail "--json: $result"
[ "$(json "['png']" <<<"$result")" = "$folder/s.png" ] || fail "--json: $result"

# encoding; sampling from the latents is the reconstruction that encode measured
result=$("$diffuse" encode --checkpoint runs/tiny --input "digits:test[0:3]" --steps 10 --out l.safetensors --png l.png --reconstruct r.png --json 2>/dev/null)
for key in latent_mean latent_std roundtrip_mse; do json "['$key']" <<<"$result" >/dev/null || fail "encode --json has no $key"; done
"$diffuse" sample --checkpoint runs/tiny --latents l.safetensors --steps 10 --save-tensors x.safetensors --out x.png >/dev/null 2>&1 || fail "sample --latents"
"$diffuse" sample --checkpoint runs/tiny --num 1 --steps 2 --out one.png >/dev/null 2>&1
python3 - one.png <<'END'
import struct, sys, zlib  # crops the grid's border, so that the picture has the size of an image
data = open(sys.argv[1], 'rb').read()
size = struct.unpack('>I', data[16:20])[0]
assert size == 32, size
def chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
def png(name, kind, row):
    open(name, 'wb').write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 28, 28, 8, kind, 0, 0, 0)) +
                           chunk(b'IDAT', zlib.compress((b'\0' + row) * 28)) + chunk(b'IEND', b''))
png('grey.png', 0, bytes(range(28)))
png('rgb.png', 2, bytes(v for i in range(28) for v in (i, i, i)))
png('colour.png', 2, bytes(v for i in range(28) for v in (i, 0, i)))
png('alpha.png', 4, bytes(v for i in range(28) for v in (i, 255)))
END
"$diffuse" encode --checkpoint runs/tiny --input grey.png rgb.png --steps 4 --out g.safetensors >/dev/null 2>err.txt || fail "encode PNG files"
grep -q "rgb.png: grey in RGB, taken as one channel" err.txt || fail "no word about the RGB file: $(cat err.txt)"

# what is wrong is said in one line, before work begins, and leaves nothing behind
while IFS='|' read -r pattern arguments; do
    expect_error 2 "$pattern" $arguments
done <<'END'
subcommand is required|
unknown solver 'dimm'; did you mean 'ddim'.*known: ddpm, ddim, heun|sample --checkpoint runs/tiny --solver dimm
unknown spacing 'unifrom'; did you mean 'uniform'|sample --checkpoint runs/tiny --spacing unifrom
--checkpoint is required|sample
--config is required|train
arguments were not expected: 4 --stpes|sample --checkpoint runs/tiny --stpes 4
--eta belongs to ddim|sample --checkpoint runs/tiny --solver heun --eta 0.5
--eta|sample --checkpoint runs/tiny --eta -1
--num|sample --checkpoint runs/tiny --num 0
--steps|sample --checkpoint runs/tiny --steps 0
expected 1 to 1000|sample --checkpoint runs/tiny --steps 1001
--num 4 contradicts --latents|sample --checkpoint runs/tiny --latents l.safetensors --num 4
has no tensor 'latents'|sample --checkpoint runs/tiny --latents a.safetensors
No such file|sample --checkpoint missing
not a checkpoint of diffuse|sample --checkpoint a.safetensors
not a valid safetensors file|sample --checkpoint tiny.json
there is no folder|sample --checkpoint runs/tiny --out no/such/folder.png
no device 'cuda:63'|sample --checkpoint runs/tiny --device cuda:63
unknown device 'gpu'|sample --checkpoint runs/tiny --device gpu
ddpm is stochastic|encode --checkpoint runs/tiny --solver ddpm --input digits:test[0:1]
expected 0 <= A < B <= 10000|encode --checkpoint runs/tiny --input digits:test[5:5]
colour.png: is in colour|encode --checkpoint runs/tiny --input colour.png
alpha.png: has transparency|encode --checkpoint runs/tiny --input alpha.png
32x32 with 1 channels; this checkpoint needs 28x28|encode --checkpoint runs/tiny --input one.png
not a readable PNG file|encode --checkpoint runs/tiny --input tiny.json
No such file|encode --checkpoint runs/tiny --input missing.png
No such file|train --config missing.json
unknown key 'train.stepz'; did you mean 'train.steps'|train --config tiny.json --out new --set train.stepz=3
train.batch_size is 0; expected a whole number from 1 to 65536|train --config tiny.json --out new --set train.batch_size=0
model.patch_size|train --config tiny.json --out new --set model.patch_size=3
no train-images-idx3-ubyte|train --config tiny.json --out new --set dataset.kind=mnist --set dataset.dir=nowhere
END
echo "the command line works: $("$diffuse" --version)"
