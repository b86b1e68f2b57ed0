#!/usr/bin/env bash
# The command line from end to end, on digits that the program draws:  tests/cli_test.sh PATH/TO/diffuse
set -euo pipefail
diffuse=$(realpath "$1")
table=$(realpath "$(dirname "$0")/wrong_commands.txt")
names=$(realpath "$(dirname "$0")/../scripts/names")
top=$(mktemp -d)  # the commands run in a folder of it, beside which their output is kept
folder=$top/work
trap 'rm -rf "$top"' EXIT
mkdir "$folder"
cd "$folder"

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
json() { python3 -c "import json,sys; print(json.load(sys.stdin)$1)"; }

cat >tiny.json <<'END'
{"dataset": {"kind": "digits", "limit": 200},
 "model": {"base_channels": 8, "channel_multipliers": [1, 2], "attention_resolutions": [7], "patch_size": 2},
 "train": {"steps": 30, "batch_size": 16, "warmup_steps": 5, "log_every": 10, "sample_every": 15, "checkpoint_every": 15}}
END

# help and version
"$diffuse" --version | grep -q '^diffuse .*LibTorch' || fail version
for command in "" train sample encode eval info; do "$diffuse" $command --help | grep -q -- --help || fail "help of $command"; done

# training: a plan without files, then the run folder
train --dry-run --set train.steps=7 2>/dev/null | json "['train']['steps']" | grep -qx 7 || fail dry-run
[ ! -e runs ] || fail "--dry-run wrote files"
out=$(train --seed 3 2>/dev/null)
[ "$out" = "$folder/runs/tiny" ] || fail "train printed: $out"
for file in config.json metrics.jsonl log.txt checkpoint.safetensors samples/step-0000015.png samples/step-0000030.png; do
    [ -s "runs/tiny/$file" ] || fail "no runs/tiny/$file"
done
[ "$(json "['seed']" <runs/tiny/config.json)" = 3 ] || fail "the seed is not in the resolved config"
[ "$(wc -l <runs/tiny/metrics.jsonl)" = 3 ] || fail "metrics.jsonl has not three lines"
mv runs/tiny runs/seeded
train --set train.steps=5 >/dev/null 2>&1
train --force >/dev/null 2>&1 || fail --force

# a training that gets a signal saves, and says how to go on
interrupt() {  # SIGNAL CODE; env, since a shell that was told to ignore a signal (nohup) makes its children do so
    env --default-signal="$1" "$diffuse" train --config tiny.json --threads 1 --set train.sample_every=0 --set train.steps=100000 --out interrupted >/dev/null 2>err.txt &
    local process=$! status=0
    while [ ! -s interrupted/metrics.jsonl ]; do
        kill -0 $process || fail "training died"
        sleep 0.1
    done
    kill -"$1" $process
    wait $process || status=$?
    [ $status = "$2" ] || fail "SIG$1 gave exit code $status"
    tail -n 1 err.txt | grep -q "resume it by: diffuse train --resume $folder/interrupted" || fail "SIG$1: $(cat err.txt)"
}
for pair in "TERM 143" "HUP 129" "INT 130"; do
    rm -rf interrupted
    interrupt $pair
done
steps=$(("$("$diffuse" info interrupted --json | json "['step']")" + 25))
"$diffuse" train --resume interrupted --set train.steps=$steps >out.txt 2>err.txt || fail "resume: $(cat err.txt)"
grep -q "train.steps: $steps, was 100000" err.txt || fail "resume does not say what changed: $(cat err.txt)"
[ "$(cat out.txt)" = "$folder/interrupted" ] || fail "resume printed $(cat out.txt)"
(cd interrupted && "$diffuse" train --resume) >/dev/null 2>err.txt || fail "resuming a finished run failed: $(cat err.txt)"
grep -q "is finished: $steps steps of $steps" err.txt || fail "resuming a finished run said: $(cat err.txt)"

# a run of 17 steps that is prolonged to 30 ends as one of 30, bit for bit
train --set train.decay=none --set train.sample_every=0 --out whole >/dev/null 2>&1
train --set train.decay=none --set train.sample_every=0 --set train.steps=17 --out parts >/dev/null 2>&1
train --resume parts --set train.decay=none --set train.sample_every=0 >/dev/null 2>&1 || fail "resume with a config"
cmp parts/checkpoint.safetensors whole/checkpoint.safetensors || fail "a prolonged run ends differently"

# the log: whatever the terminal shows, log.txt has the details; a resumed run appends to it, --force begins anew
log_line="^[0-9-]{10}T[0-9:.]{12}[+-][0-9]{2}:[0-9]{2} (debug|info|warning|error) +[^ ]"
logged() { grep -qE "$2" "$1/log.txt" || fail "'$2' is not in $1/log.txt: $(cat "$1/log.txt")"; }
train --set train.decay=none --set train.steps=20 --out logged --quiet >/dev/null 2>err.txt
[ ! -s err.txt ] || fail "train --quiet printed: $(cat err.txt)"
! grep -vE "$log_line" logged/log.txt || fail "a line of log.txt without its time and level"
logged logged "info +training .* images for 20 steps"
logged logged "debug +LibTorch .* threads"
logged logged "debug +saved .*checkpoint.safetensors of step 15"
logged logged "debug +saved .*step-0000015.png"
[ "$(sed 's/^/debug   /' logged/metrics.jsonl | grep -cFf - logged/log.txt)" = 2 ] || fail "the two lines of metrics are not in log.txt"
logged logged "info +trained 20 steps"
cp logged/log.txt first.txt
"$diffuse" train --resume logged --set train.steps=30 --verbose >/dev/null 2>err.txt || fail "resume --verbose: $(cat err.txt)"
grep -q "^debug: saved .*of step 30" err.txt || fail "train --verbose printed: $(cat err.txt)"
head -c "$(stat -c %s first.txt)" logged/log.txt | cmp - first.txt || fail "a resumed run changed the old lines of log.txt"
logged logged "info +.*resuming after step 20"
(expect_error 2 "cannot become 4" train --resume logged --seed 4)
logged logged "error +seed is 0 in this run and cannot become 4"
train --out logged --force --quiet >/dev/null 2>&1
! grep -q "20 steps" logged/log.txt || fail "--force left lines of the run before in log.txt"
logged interrupted "error +interrupted; step .*resume it by: diffuse train --resume"
"$diffuse" train --resume logged --set train.steps=31 >/dev/null 2>/dev/full || fail "a stderr that is full ended a training"
"$diffuse" train --resume logged --set train.steps=32 >/dev/null 2>&- || fail "a closed stderr ended a training"
[ ! -s logged/.lock ] || fail "with stderr closed, a file got the log's lines: $(cat logged/.lock)"
! grep -l $'\033' err.txt ./*/log.txt runs/*/log.txt || fail "escape codes in a file"
mkdir -p blocked/log.txt
code=0
train --out blocked >out.txt 2>err.txt || code=$?
[ $code = 2 ] && [ "$(cat err.txt)" = "error: cannot write $folder/blocked/log.txt: Is a directory" ] || fail "a log.txt that cannot be opened: $(cat err.txt)"

# on a terminal: colours unless NO_COLOR is set, a progress line unless --quiet
on_terminal() { python3 -c 'import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)' "$@"; }
code=0
TERM=xterm on_terminal "$diffuse" sample --checkpoint missing >out.txt || code=$?
[ $code = 2 ] || fail "an error on a terminal gave exit code $code"
grep -q $'^\033\[31m\033\[1merror: \033\[mcannot read' out.txt || fail "no colour on a terminal: $(cat -v out.txt)"
NO_COLOR=1 TERM=xterm on_terminal "$diffuse" sample --checkpoint missing >out.txt || true
grep -q '^error: cannot read' out.txt || fail "colours in spite of NO_COLOR: $(cat -v out.txt)"

# info: a checkpoint and the machine
"$diffuse" info runs/tiny >out.txt
grep -q "trained *30 of 30 steps, 480 images, loss 0" out.txt || fail "info: $(cat out.txt)"
[ "$("$diffuse" info runs/tiny/checkpoint.safetensors --json | json "['config']['train']['batch_size']")" = 16 ] || fail "info --json"
"$diffuse" info | grep -q "LibTorch" || fail "info of the machine"
"$diffuse" info --json | json "['threads']" | grep -q '^[1-9]' || fail "info --json of the machine"
if [ "$("$diffuse" info --json | json "['device']")" = cpu ]; then
    missing="NVIDIA's driver gives it no GPU"
    [ "$("$diffuse" info --json | json "['cuda']")" != None ] || missing="built on a LibTorch for the CPU only"
    expect_error 2 "no device 'cuda': .*$missing" sample --checkpoint runs/tiny --device cuda
fi

# sampling: every solver; the same pictures whatever the batch, the threads and the number
solvers=$("$names" "$diffuse" sample --solver)
[ "$(wc -l <<<"$solvers")" -ge 13 ] || fail "sample --help lists no solvers: $solvers"
for solver in $solvers; do
    "$diffuse" sample --checkpoint runs/tiny --solver $solver --steps 4 --num 5 --out $solver.png >out.txt 2>/dev/null || fail "sample $solver"
    [ "$(tail -n 1 out.txt)" = "$folder/$solver.png" ] || fail "sample did not print the path of its picture"
done
for kind in png gif; do
    "$diffuse" sample --checkpoint runs/tiny --nfe 5 --num 3 --out t.png --trajectory trajectory.$kind >/dev/null 2>&1 || fail "--trajectory"
    [ -s trajectory.$kind ] || fail "no trajectory.$kind"
done
[ "$("$diffuse" sample --checkpoint runs/tiny --show-grid --steps 5 --json | json "[1]['t']")" = 800.0 ] || fail "--show-grid"
[ "$("$diffuse" sample --checkpoint runs/tiny --solver heun --nfe 10 --num 1 --out t.png --json 2>/dev/null | json "['nfe']")" = 9 ] || fail "--nfe"
sample() { "$diffuse" sample --checkpoint runs/tiny --steps 4 --seed 7 "$@" --out s.png 2>/dev/null >/dev/null; }
sample --num 12 --threads 1 --save-tensors a.safetensors
sample --num 12 --threads 2 --batch 3 --save-tensors b.safetensors
cmp a.safetensors b.safetensors || fail "the pictures depend on --batch or --threads"
"$diffuse" sample --checkpoint runs/tiny --steps 2 --num 2 --out s.png --quiet >out.txt 2>err.txt
[ "$(tail -n 1 out.txt)" = "$folder/s.png" ] && [ ! -s err.txt ] || fail "sample --quiet: $(cat out.txt err.txt)"
"$diffuse" sample --checkpoint runs/tiny --steps 2 --num 2 --out s.png --verbose >/dev/null 2>err.txt
grep -q "^debug: $folder/runs/tiny/checkpoint.safetensors, step 30: LibTorch .* threads" err.txt || fail "sample --verbose: $(cat err.txt)"
result=$("$diffuse" sample --checkpoint runs/tiny/checkpoint.safetensors --solver heun --steps 4 --num 3 --out s.png --json 2>/dev/null)
[ "$(json "['nfe']" <<<"$result")" = 7 ] || fail "--json: $result"
[ "$(json "['png']" <<<"$result")" = "$folder/s.png" ] || fail "--json: $result"

[ "$("$diffuse" sample --checkpoint runs/tiny --show-grid --steps 5 --max-ratio 10 --json | json "[0]['ratio'] <= 10")" = True ] || fail "--max-ratio"

# x0 is clipped by default in ddpm, and in ddim with eta above 0, and nowhere else; so it is in eval
clips() {  # yes|no ARGUMENT...
    local expected=$1 with=no
    shift
    sample --num 2 --save-tensors default.safetensors "$@"
    sample --num 2 --save-tensors clipped.safetensors --clip-x0 "$@"
    sample --num 2 --save-tensors free.safetensors --no-clip-x0 "$@"
    cmp -s clipped.safetensors free.safetensors && fail "--clip-x0 changes nothing: $*"
    cmp -s default.safetensors clipped.safetensors && with=yes
    [ $with = $expected ] || fail "clipped by default: $with, expected $expected: $*"
}
clips yes --solver ddpm
clips yes --solver ddpm-upper
clips yes --solver ddim --eta 0.5
clips no --solver ddim
clips no --solver unipc
python3 - <<'END'
import os, random, struct  # MNIST's four files with few images, since a distance looks at all images of the test set
os.mkdir('mnist')
for part in 'train', 't10k':
    open(f'mnist/{part}-images-idx3-ubyte', 'wb').write(struct.pack('>IIII', 0x803, 200, 28, 28) + random.Random(0).randbytes(200 * 28 * 28))
    open(f'mnist/{part}-labels-idx1-ubyte', 'wb').write(struct.pack('>II', 0x801, 200) + bytes(i % 10 for i in range(200)))
END
train --set dataset.kind=mnist --set dataset.dir=mnist --set train.steps=20 --set train.sample_every=0 --out spots >/dev/null 2>&1
fid() { "$diffuse" eval --checkpoint spots --num 8 --solvers ddpm --steps 4 --json "$@" 2>/dev/null | json "['rows'][0]['fid']"; }
[ "$(fid)" = "$(fid --clip-x0)" ] && [ "$(fid)" != "$(fid --no-clip-x0)" ] || fail "eval does not clip as sample does"

# eval: a table of each metric
rows() { python3 -c "import json,sys; rows = json.load(sys.stdin)['rows']; print(len(rows), *rows[0])"; }
[ "$("$diffuse" eval --checkpoint spots --num 20 --solvers ddim,unipc --steps 2,3 --json 2>/dev/null | rows)" = \
    "4 solver spacing steps nfe fid above_0.9 seconds class_shares" ] || fail "eval --metric fid"
[ "$("$diffuse" eval --checkpoint runs/tiny --metric roundtrip --num 4 --solvers ddim,reversible --nfe 4 --json 2>/dev/null | rows)" = \
    "2 solver spacing steps nfe mse latent_mean latent_std" ] || fail "eval --metric roundtrip"
train --set train.steps=3 --set schedule.steps=20 --out short >/dev/null 2>&1
[ "$("$diffuse" eval --checkpoint short --metric nll --num 2 --ode-steps 3 --json 2>/dev/null | rows)" = \
    "3 bound bits_per_dim standard_error nfe" ] || fail "eval --metric nll"
"$diffuse" eval --checkpoint short --metric nll --num 2 >/dev/null 2>err.txt || fail "nll of 20 levels: $(cat err.txt)"
[ "$("$diffuse" eval --checkpoint runs/tiny --metric roundtrip --num 2 --solvers heun,rk4 --nfe 9 --json 2>/dev/null | json "['rows'][0]['nfe']")" = 8 ] || fail "--nfe of a round trip"
for option in --quiet --verbose; do
    "$diffuse" eval --checkpoint runs/tiny --metric roundtrip --num 4 --steps 2 $option >/dev/null 2>err$option.txt || fail "eval $option"
done
[ ! -s err--quiet.txt ] || fail "eval --quiet: $(cat err--quiet.txt)"
grep -q "^debug: .*step 30: LibTorch" err--verbose.txt || fail "eval --verbose: $(cat err--verbose.txt)"

# encoding; sampling from the latents is the reconstruction that encode measured
result=$("$diffuse" encode --checkpoint runs/tiny --input "digits:test[0:3]" --steps 10 --out l.safetensors --png l.png --reconstruct r.png --json 2>/dev/null)
[ "$("$diffuse" encode --checkpoint runs/tiny --input "digits:test[0:1]" --solver rk4 --nfe 5 --out n.safetensors --json 2>/dev/null | json "['nfe']")" = 4 ] || fail "encode exceeds --nfe"
for key in latent_mean latent_std roundtrip_mse; do json "['$key']" <<<"$result" >/dev/null || fail "encode --json has no $key"; done
"$diffuse" sample --checkpoint runs/tiny --latents l.safetensors --save-tensors x.safetensors --out x.png >/dev/null 2>&1 || fail "sample --latents"
"$diffuse" encode --checkpoint runs/tiny --input "digits:test[0:2]" --solver rk4 --nfe 9 --spacing karras --weights raw --out h.safetensors >/dev/null 2>&1
"$diffuse" sample --checkpoint runs/tiny --latents h.safetensors --save-tensors as-made.safetensors --out x.png >out.txt 2>&1 || fail "sample --latents"
grep -q 'by rk4 in 2 steps' out.txt || fail "sample --latents does not decode as encode went: $(cat out.txt)"
for options in "--solver rk4 --steps 2 --spacing karras --weights raw" "--solver ddim --nfe 3"; do
    # shellcheck disable=SC2086  # some options
    "$diffuse" sample --checkpoint runs/tiny --latents h.safetensors $options --save-tensors "given-${options:9:4}.safetensors" --out x.png >/dev/null 2>&1
done
cmp as-made.safetensors given-rk4\ .safetensors || fail "sample --latents is not as encode was"
"$diffuse" sample --checkpoint runs/tiny --latents h.safetensors --show-grid --json | json "[1]['t']" >t.txt || fail "the grid of latents"
[ "$("$diffuse" sample --checkpoint runs/tiny --spacing karras --steps 2 --show-grid --json | json "[1]['t']")" = "$(cat t.txt)" ] || fail "sample --latents --show-grid shows another grid"
"$diffuse" encode --checkpoint runs/tiny --input "digits:test[0:1]" --steps 3 --max-ratio inf --out i.safetensors >/dev/null 2>&1
"$diffuse" sample --checkpoint runs/tiny --latents i.safetensors --show-grid --json | json "[0]['t']" | grep -qx 1000.0 || fail "--max-ratio inf is lost in a file of latents"
"$diffuse" sample --checkpoint runs/tiny --latents h.safetensors --solver ddim --eta 0.5 --out x.png >/dev/null 2>&1 || fail "--eta with latents"
! cmp -s as-made.safetensors given-ddim.safetensors || fail "sample --latents does not do what it is told"
result=$("$diffuse" encode --checkpoint runs/tiny --input "digits:test[0:3]" --solver reversible --steps 10 --out pairs.safetensors --json 2>/dev/null)
python3 -c "import json,sys; assert json.loads(sys.argv[1])['roundtrip_mse'] < 1e-10, sys.argv[1]" "$result" || fail "reversible does not return"
"$diffuse" sample --checkpoint runs/tiny --latents pairs.safetensors --out x.png >/dev/null 2>&1 || fail "sample of second states"
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
png('alpha.png', 4, bytes(v for i in range(28) for v in (i, 254)))
png('opaque.png', 4, bytes(v for i in range(28) for v in (i, 255)))
END
"$diffuse" encode --checkpoint runs/tiny --input grey.png rgb.png opaque.png --steps 4 --out g.safetensors --quiet >/dev/null 2>err.txt || fail "encode PNG files"
[ ! -s err.txt ] || fail "encode --quiet: $(cat err.txt)"
"$diffuse" encode --checkpoint runs/tiny --input grey.png rgb.png --steps 4 --out g.safetensors >/dev/null 2>err.txt || fail "encode PNG files"
grep -q "rgb.png: grey in RGB, taken as one channel" err.txt || fail "no word about the RGB file: $(cat err.txt)"

# --force takes a run's own files and no others; a result that cannot be written is a failure
mkdir -p mixed/checkpoints mixed/samples
touch mixed/config.json mixed/notes.txt mixed/checkpoints/{best.pt,step-0000003.safetensors} mixed/samples/{mine.png,step-best.png,step-0000009.png,step-0000009.png.1.tmp}
train --set train.steps=1 --out mixed --force >/dev/null 2>&1 || fail "train --force into a folder with other files"
for file in notes.txt checkpoints/best.pt samples/mine.png samples/step-best.png; do [ -e mixed/$file ] || fail "--force removed $file"; done
for file in checkpoints/step-0000003.safetensors samples/step-0000009.png samples/step-0000009.png.1.tmp; do [ ! -e mixed/$file ] || fail "--force left $file"; done
! train --dry-run >/dev/full 2>err.txt || fail "a plan that could not be written was a success"
grep -q "cannot be written to standard output" err.txt || fail "a full standard output: $(cat err.txt)"

# a run that has lost its checkpoint is not begun anew without a word
cp -r mixed lost
rm lost/checkpoint.safetensors
(expect_error 2 "has lost its checkpoint.safetensors; copy the one" train --resume lost) || fail "a lost checkpoint"
[ -s lost/metrics.jsonl ] || fail "the metrics of a run without checkpoint were emptied"

# a thread for each core that the process may use; signals that were ignored stay so
[ "$(OMP_NUM_THREADS=1 "$diffuse" info --json | json "['threads']")" = 1 ] || fail "OMP_NUM_THREADS is not heeded"
[ "$(taskset -c "$(taskset -cp $$ | grep -oE '[0-9]+$')" "$diffuse" info --json | json "['threads']")" = 1 ] || fail "taskset is not heeded"
(trap '' INT && exec "$diffuse" train --config tiny.json --threads 1 --set train.steps=200 --set train.sample_every=0 --out ignoring >/dev/null 2>err.txt) &
process=$!
while [ ! -s ignoring/metrics.jsonl ]; do kill -0 $process || fail "training died"; sleep 0.05; done
kill -INT $process
wait $process || fail "a SIGINT that was ignored ended a training: $(cat err.txt)"

# devices and pipes are written into
mkfifo pipe.png
cat pipe.png >piped.png &
"$diffuse" sample --checkpoint runs/tiny --num 1 --steps 2 --out pipe.png >/dev/null 2>&1 || fail "sample into a pipe"
wait $!
cmp piped.png one.png || fail "another picture came through a pipe"
"$diffuse" sample --checkpoint runs/tiny --num 1 --steps 2 --out /dev/null >/dev/null 2>&1 && [ -c /dev/null ] || fail "sample --out /dev/null"

# what is wrong is said in one line, before work begins, and leaves nothing behind
head -c 100 runs/tiny/checkpoint.safetensors >cut.safetensors
head -c 100000 runs/tiny/checkpoint.safetensors >half.safetensors
(cat runs/tiny/checkpoint.safetensors && echo) >long.safetensors
head -c 60 grey.png >cut.png
printf '{\n"seed": }' >broken.json
printf '{"seed": 1, "seed": 2}' >twice.json
printf '{"a\\nb": 1}' >newline.json
python3 - <<'END'
import json, struct
half = json.dumps({'latents': {'dtype': 'F16', 'shape': [1, 1, 28, 28], 'data_offsets': [0, 1568]},
                   'mask': {'dtype': 'BOOL', 'shape': [3], 'data_offsets': [1568, 1571]}}).encode()
open('f16.safetensors', 'wb').write(struct.pack('<Q', len(half)) + half + bytes(1571))
def write(name, size, metadata):
    header = json.dumps({'latents': {'dtype': 'F32', 'shape': [1, 1, size, size], 'data_offsets': [0, 4 * size**2]},
                         '__metadata__': metadata}).encode()
    open(name, 'wb').write(struct.pack('<Q', len(header)) + header + bytes(4 * size**2))
write('small.safetensors', 8, {})
write('odd.safetensors', 28, {'sampling': '{"solv": 1}'})
write('array.safetensors', 28, {'sampling': '[]'})
write('both.safetensors', 28, {'sampling': '{"steps": 2, "nfe": 2}'})
END
"$diffuse" sample --checkpoint runs/tiny --latents f16.safetensors --steps 2 --out f16.png >/dev/null 2>err.txt || fail "latents of F16: $(cat err.txt)"
grep -q "its latents are Half, taken as float32" err.txt || fail "no word about latents of F16: $(cat err.txt)"
rm f16.png
count=0 failures=0
while IFS='|' read -r pattern arguments; do
    case $pattern in ''|'#'*) continue ;; esac
    eval "set -- $arguments"
    (expect_error 2 "$pattern" "$@") || failures=$((failures + 1))
    count=$((count + 1))
done <"$table"
[ $failures = 0 ] || fail "$failures of $count wrong command lines"
echo "the command line works, and $count wrong ones are refused: $("$diffuse" --version)"
