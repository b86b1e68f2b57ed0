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
# FILE NAME: the shape of a tensor
tensors() {
    python3 -c "
import json, struct, sys
data = open(sys.argv[1], 'rb').read()
print(*json.loads(data[8:8 + struct.unpack('<Q', data[:8])[0]])[sys.argv[2]]['shape'], sep=',')" "$@"
}
json() { python3 -c "import json,sys; print(json.load(sys.stdin)$1)"; }

cat >tiny.json <<'END'
{"dataset": {"kind": "digits", "limit": 200},
 "model": {"base_channels": 8, "channel_multipliers": [1, 2], "attention_resolutions": [7], "patch_size": 2},
 "train": {"steps": 30, "batch_size": 16, "warmup_steps": 5, "log_every": 10, "sample_every": 15, "checkpoint_every": 15}}
END

# help and version
"$diffuse" --version | grep -q '^diffuse .*LibTorch' || fail version
! "$diffuse" --version >/dev/full 2>err.txt || fail "a version that could not be written was a success"
! "$diffuse" sample --help >&- 2>err.txt || fail "a help that could not be written was a success"

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
[ $code = 2 ] && [ "$(cat err.txt)" = "error: $folder/blocked/log.txt is a folder, where a file of the run would be; give another folder with --out" ] || fail "a log.txt that cannot be opened: $(cat err.txt)"

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
# without the input skip, so that x0 leaves [-1, 1] where it is not clipped
train --set dataset.kind=mnist --set dataset.dir=mnist --set model.input_skip=none --set train.steps=20 --set train.sample_every=0 --out spots >/dev/null 2>&1
cp -r mnist more-classes # of the test images alone; they count as of none that the network knows
python3 -c "open('more-classes/t10k-labels-idx1-ubyte', 'r+b').write(b'\\0\\0\\x08\\x01\\0\\0\\0\\xc8' + bytes(i % 13 for i in range(200)))"
train --set dataset.kind=mnist --set dataset.dir=more-classes --set train.steps=4 --set train.validate_every=2 --set train.sample_every=0 --out more >/dev/null 2>err.txt || fail "held-out images of unknown classes: $(cat err.txt)"
fid() { "$diffuse" eval --checkpoint spots --num 8 --solvers ddpm --steps 4 --json "$@" 2>/dev/null | json "['rows'][0]['fid']"; }
[ "$(fid)" = "$(fid --clip-x0)" ] && [ "$(fid)" != "$(fid --no-clip-x0)" ] || fail "eval does not clip as sample does"

"$diffuse" train --config tiny.json --estimate --quiet >out.txt && grep -Eq "^about [0-9:]+ on cpu with [0-9]+ threads: 30 steps at [0-9]+ images/s" out.txt && [ ! -e runs/tiny.json ] || fail "train --estimate: $(cat out.txt)"

# labels and guidance: classes that follow one another, columns of classes, the same pictures whatever the batch
[ "$("$diffuse" info runs/tiny --json | json "['config']['model']['classes']")" = 10 ] || fail "the classes of the data are not found"
classes() { "$diffuse" sample --checkpoint runs/tiny --steps 3 --seed 7 --out s.png --save-tensors c.safetensors --json --quiet "$@"; }
[ "$(classes | json "['num']")" = 70 ] || fail "the rows of ten classes are not filled"
[ "$("$diffuse" info s.png --json | json "['width']")" = $((2 * (10 * 30 + 2))) ] || fail "a column is not a class"
[ "$(classes --class 3 --num 4 | json "['num']")" = 4 ] || fail --class
python3 - c.safetensors 3 3 3 3 <<'END' || fail "--save-tensors does not tell the classes"
import json, struct, sys
data = open(sys.argv[1], 'rb').read()
size = struct.unpack('<Q', data[:8])[0]
begin, end = json.loads(data[8:8 + size])['classes']['data_offsets']
assert list(struct.unpack('<4q', data[8 + size + begin:8 + size + end])) == [int(c) for c in sys.argv[2:]]
END
guided="--guidance 2.5 --guidance-interval 0.3,5 --guidance-rescale 0.5 --class 0,1,2"
# shellcheck disable=SC2086  # options
sample --num 12 --threads 1 --save-tensors a.safetensors $guided
# shellcheck disable=SC2086
sample --num 12 --threads 2 --batch 3 --save-tensors b.safetensors $guided
cmp a.safetensors b.safetensors || fail "guided pictures depend on --batch or --threads"
"$diffuse" sample --checkpoint runs/tiny --steps 4 --num 2 --guidance 2 --out s.png >out.txt 2>/dev/null
grep -q "(8 network evaluations each), guided by scale 2 (w = 1)" out.txt || fail "guidance is not told: $(cat out.txt)"
"$diffuse" sample --checkpoint runs/tiny --nfe 9 --num 2 --guidance 2 --out s.png --json --quiet | json "['nfe']" | grep -qx 8 || fail "--nfe is exceeded by guidance"
sample --num 3 --guidance 2 --negative-class 4 --save-tensors n.safetensors
sample --num 3 --guidance 2 --save-tensors m.safetensors
sample --num 3 --guidance 2 --guide runs/seeded --save-tensors o.safetensors
sample --num 3 --guidance 2 --threshold 90 --save-tensors p.safetensors
for other in n o p; do ! cmp -s m.safetensors $other.safetensors || fail "an option of guidance changes nothing: $other"; done
"$diffuse" encode --checkpoint runs/tiny --input 'digits:test[0:4]' --solver reversible --steps 6 --out k.safetensors --json --quiet >k.json
python3 -c "import json; assert json.load(open('k.json'))['roundtrip_mse'] < 1e-10" || fail "encoding with labels does not return: $(cat k.json)"
"$diffuse" sample --checkpoint runs/tiny --latents k.safetensors --out s.png --save-tensors own.safetensors --quiet >/dev/null
"$diffuse" sample --checkpoint runs/tiny --latents k.safetensors --class none --out s.png --save-tensors none.safetensors --quiet >/dev/null 2>&1
! cmp -s own.safetensors none.safetensors || fail "the classes of latents are not kept"
# the checkpoint's own way of sampling
train --set sample.solver=ddim --set sample.nfe=6 --set sample.eta=0.5 --set sample.guidance=1.5 --out ways >/dev/null 2>&1
"$diffuse" sample --checkpoint ways --num 1 --out s.png --quiet >out.txt
grep -q "by ddim in 3 steps (6 network evaluations each), guided by scale 1.5" out.txt || fail "the config's way of sampling is not taken: $(cat out.txt)"
"$diffuse" sample --checkpoint ways --num 1 --solver heun --steps 4 --guidance 1 --out s.png --quiet >out.txt || fail "other options than the config's"
grep -q "by heun in 4 steps (7 network evaluations each): " out.txt || fail "the command line does not win: $(cat out.txt)"

# eval: a table of each metric
rows() { python3 -c "import json,sys; rows = json.load(sys.stdin)['rows']; print(len(rows), *rows[0])"; }
[ "$("$diffuse" eval --checkpoint spots --num 20 --solvers ddim,unipc --steps 2,3 --json 2>/dev/null | rows)" = \
    "4 solver spacing steps nfe guidance fid above_0.9 as_asked seconds class_shares" ] || fail "eval --metric fid"
[ "$("$diffuse" eval --checkpoint spots --metric pr --num 20 --solvers ddim,unipc --steps 2 --json 2>/dev/null | rows)" = \
    "2 solver spacing steps nfe guidance precision recall nearest_train copies seconds" ] || fail "eval --metric pr"
[ "$("$diffuse" eval --checkpoint runs/tiny --metric roundtrip --num 4 --solvers ddim,reversible --nfe 4 --json 2>/dev/null | rows)" = \
    "2 solver spacing steps nfe mse latent_mean latent_std" ] || fail "eval --metric roundtrip"
"$diffuse" eval --checkpoint spots --num 200 --steps 2 --guidance 1,2 --guidance-interval 0.3,3,1,20 --per-class --plot guidance.svg --json >eval.json 2>err.txt || fail "eval --plot: $(cat err.txt)"
[ "$(rows <eval.json)" = "33 solver spacing steps nfe guidance interval class fid floor above_0.9 as_asked seconds class_shares" ] || fail "a table over scales and intervals: $(rows <eval.json)"
grep -q "interval 1,20" guidance.svg && grep -q "as_asked" guidance.svg && [ "$(json "['plot']" <eval.json)" = "$folder/guidance.svg" ] || fail "eval --plot"
"$diffuse" eval --checkpoint spots --num 20 --metric pr --nfe 2,4 --plot pr.png --quiet >/dev/null && [ "$("$diffuse" info pr.png --json | json "['width']")" = 1120 ] || fail "a plot over evaluations"
(PATH=/nowhere "$diffuse" eval --checkpoint spots --num 20 --nfe 2,4 --plot none.svg 2>&1 || true) | grep "gnuplot, which is not there; install it" >/dev/null || fail "no word about gnuplot"
# a scale alone keeps the interval that the checkpoint's config gives
train --set dataset.kind=mnist --set dataset.dir=mnist --set train.steps=2 --set sample.guidance=2 --set 'sample.guidance_interval=[1,20]' --out interval >/dev/null 2>&1
[ "$("$diffuse" eval --checkpoint interval --num 20 --steps 3 --guidance 1,3 --json --quiet | json "['rows'][1]['interval']")" = 1,20 ] || fail "eval --guidance drops the checkpoint's interval"
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

# other processes: training with the loss of each level and of held-out images, the way there and back, a likelihood
while read -r kind prediction levels weighting; do
    train --set schedule.kind=$kind --set model.prediction=$prediction --set train.levels=$levels --set train.weighting=$weighting \
        --set train.validate_every=15 --set train.sample_every=0 --out process-$kind >/dev/null 2>err.txt || fail "training on $kind: $(cat err.txt)"
    python3 -c "
import json
last = [json.loads(line) for line in open('process-$kind/metrics.jsonl')][-1]
assert len(last['level_loss']) == 10 and last['validation_loss'] > 0, last" || fail "losses of $kind: $(tail -n 1 process-$kind/metrics.jsonl)"
    "$diffuse" encode --checkpoint process-$kind --input 'digits:test[0:2]' --solver reversible --steps 6 --out k.safetensors --json --quiet >k.json
    python3 -c "import json; trip = json.load(open('k.json')); assert trip['roundtrip_mse'] < 1e-9 and trip['latent_std'] < 3, trip" || fail "encoding on $kind: $(cat k.json)"
    "$diffuse" eval --checkpoint process-$kind --metric nll --num 2 --ode-steps 2 --json --quiet >/dev/null 2>err.txt || fail "nll on $kind: $(cat err.txt)"
done <<'END'
ve edm log-normal edm
flow flow logit-normal flow
vp v uniform v
cosine-vp v uniform v
sub-vp eps uniform simple
END
# and the solvers of their SDEs, and their spacings
while read -r kind solver; do
    # shellcheck disable=SC2086  # options
    "$diffuse" sample --checkpoint process-$kind --solver $solver --num 2 --out s.png --quiet >/dev/null 2>err.txt || fail "$solver on $kind: $(cat err.txt)"
done <<'END'
ve langevin --steps 2
ve edm-sde --steps 3
ve heun --spacing edm --steps 3
flow ddim --spacing flow --shift 2 --steps 3
vp pc --steps 3
cosine-vp reverse-diffusion --steps 5
sub-vp euler-maruyama --steps 5
flow dopri5 --tolerance 0.01
ve dopri5 --tolerance 0.1 --spacing edm --steps 2
END
[ "$("$diffuse" sample --checkpoint process-ve --solver langevin --spacing log-snr --show-grid --json | json '.__len__()')" -gt 60 ] || fail "NCSNv2's levels"
# an ODE to a tolerance: evaluations as many as it takes, more for a smaller one, and a way back
loose=$("$diffuse" sample --checkpoint process-vp --solver dopri5 --tolerance 0.01 --num 2 --out s.png --json --quiet | json "['nfe']")
tight=$("$diffuse" sample --checkpoint process-vp --solver dopri5 --tolerance 1e-5 --num 2 --out s.png --json --quiet | json "['nfe']")
[ "$loose" -lt "$tight" ] || fail "dopri5 took $loose and $tight evaluations"
"$diffuse" encode --checkpoint process-vp --input 'digits:test[0:2]' --solver dopri5 --tolerance 1e-5 --out k.safetensors --json --quiet >k.json
python3 -c "import json; trip = json.load(open('k.json')); assert trip['roundtrip_mse'] < 1e-5, trip" || fail "encoding by dopri5: $(cat k.json)"
"$diffuse" eval --checkpoint process-vp --metric nll --num 2 --tolerance 0.01 --json --quiet >nll.json || fail "nll to a tolerance"
python3 -c "import json; rows = json.load(open('nll.json'))['rows']; assert rows[0]['nfe'] > 7 and rows[0]['bits_per_dim'] > 0, rows" || fail "nll to a tolerance: $(cat nll.json)"

# a folder of pictures: in colour, not square, a class for each sub-folder
export XDG_CACHE_HOME=$folder/cache
python3 - <<'END'
import os, random, struct, zlib
draw = random.Random(0)
def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
def png(path, width, height, channels):
    rows = b''.join(b'\0' + draw.randbytes(width * channels) for _ in range(height))
    header = struct.pack('>IIBBBBB', width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    open(path, 'wb').write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))
for name in 'cat', 'dog':
    os.makedirs(f'pets/{name}')
    for i in range(30): png(f'pets/{name}/{i}.PNG', 24, 32, 3)
os.mkdir('sizes')
png('sizes/1.png', 8, 8, 1)
png('sizes/2.png', 8, 9, 1)
png('photo.png', 60, 40, 3)
png('mono.png', 12, 16, 1)
END
pets="--config tiny.json --set dataset.kind=images --set dataset.dir=pets --set dataset.size=16x12 --set dataset.flip=true --set dataset.limit=0 --set model.attention_resolutions=[4]"
# shellcheck disable=SC2086
"$diffuse" train $pets --out pets-dry --dry-run >out.txt 2>err.txt || fail "--dry-run of pictures: $(cat err.txt)"
grep -q "PNG files, RGB since some have colours; 60 of them cropped around the middle and averaged to 16x12; a share of 0.1 held out" err.txt || fail "what was done to pictures is not said: $(cat err.txt)"
# shellcheck disable=SC2086
"$diffuse" train $pets --out pets-dry --dry-run --set dataset.size=15x13 >/dev/null 2>err.txt && fail "a size that cannot be halved is taken"
grep -q "or pictures of 16x12 (dataset.size)" err.txt || fail "the nearest size that can be halved is not told: $(cat err.txt)"
# shellcheck disable=SC2086
"$diffuse" train $pets --threads 1 --set train.steps=6 --out pets-whole >/dev/null 2>err.txt || fail "train on pictures: $(cat err.txt)"
# shellcheck disable=SC2086
"$diffuse" train $pets --threads 1 --set train.steps=6 --set train.checkpoint_every=3 --set train.keep_checkpoints=5 --out pets-parts >/dev/null 2>&1
"$diffuse" train --threads 1 --resume pets-parts/checkpoints/step-0000003.safetensors --set train.checkpoint_every=1000 --set train.keep_checkpoints=0 >/dev/null 2>err.txt || fail "resume on pictures: $(cat err.txt)"
[ "$("$diffuse" sample --checkpoint pets-whole --class dog --num 2 --steps 2 --out s.png --save-tensors a.safetensors --quiet | tail -n 1)" = "$folder/a.safetensors" ] || fail "sample --class NAME"
"$diffuse" sample --checkpoint pets-parts --class 1 --num 2 --steps 2 --out s.png --save-tensors b.safetensors --quiet >/dev/null
python3 - a.safetensors b.safetensors <<'END' || fail "a run on pictures that was resumed is another, or a class has another number than its name"
import struct, sys
def data(path):
    everything = open(path, 'rb').read()
    return everything[8 + struct.unpack('<Q', everything[:8])[0]:]
assert data(sys.argv[1]) == data(sys.argv[2])
END
"$diffuse" info pets-whole >out.txt
grep -q "^classes     cat, dog$" out.txt && grep -q "^pictures .* averaged to 16x12; .* mirrored" out.txt && grep -q "images of 3x16x12" out.txt || fail "info of a run on pictures: $(cat out.txt)"
"$diffuse" encode --checkpoint pets-whole --input 'images:test[0:2]' photo.png mono.png --solver reversible --steps 4 --out p.safetensors --reconstruct p.png --trajectory p.gif --json >out.txt 2>err.txt || fail "encode pictures: $(cat err.txt)"
python3 -c "import json; assert json.load(open('out.txt'))['roundtrip_mse'] < 1e-9" || fail "round trip of pictures: $(cat out.txt)"
grep -q "photo.png: 40x60 pixels (height x width), cropped around the middle and averaged to 16x12" err.txt || fail "nothing said of a picture of another size: $(cat err.txt)"
grep -q "mono.png: grey, taken as RGB" err.txt || fail "nothing said of a grey picture: $(cat err.txt)"
"$diffuse" eval --checkpoint pets-whole --metric nll --num 2 --ode-steps 2 --json --quiet >/dev/null || fail "nll of pictures"
"$diffuse" eval --checkpoint pets-whole --metric roundtrip --num 2 --steps 2 --json --quiet >/dev/null || fail "roundtrip of pictures"
"$diffuse" eval --metric features --features a.safetensors --reference p.safetensors --json 2>err.txt >/dev/null && fail "features of two samples are enough"
"$diffuse" sample --checkpoint pets-whole --num 8 --steps 2 --out s.png --save-tensors c.safetensors --quiet >/dev/null
"$diffuse" eval --metric features --features c.safetensors --reference c.safetensors --json --quiet >out.txt || fail "eval --metric features"
python3 -c "import json; row = json.load(open('out.txt'))['rows'][0]; assert abs(row['frechet']) < 1e-6 and row['precision'] == row['recall'] == 1, row" || fail "a file is not like itself: $(cat out.txt)"

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
"$diffuse" sample --checkpoint runs/tiny --num 1 --steps 2 --scale 1 --out one.png >/dev/null 2>&1
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

# pictures: small ones twice as large, rows of meaning with their names, and how they were made
size() { "$diffuse" info "$1" --json | json "['width']"; }
sample --num 1 --scale 3
[ "$(size s.png)" = 96 ] || fail "--scale 3 gives $(size s.png) pixels"
sample --num 1
[ "$(size s.png)" = 64 ] || fail "a small picture is $(size s.png) pixels wide"
sample --num 4 --scale 1 --save-tensors one.safetensors
sample --num 4 --scale 5 --save-tensors five.safetensors
python3 - one.safetensors five.safetensors <<'END' || fail "--scale reaches the tensors"
import json, struct, sys
def images(path):
    data = open(path, 'rb').read()
    size = struct.unpack('<Q', data[:8])[0]
    return json.loads(data[8:8 + size])['images'], data[8 + size:]
assert images(sys.argv[1]) == images(sys.argv[2])
END
[ "$(size r.png)" -gt $((2 * (3 * 30 + 2))) ] || fail "no room for names in r.png"
"$diffuse" sample --checkpoint runs/tiny --num 2 --seed 5 --solver heun --steps 3 --out 'told of.png' >/dev/null 2>&1
"$diffuse" info 'told of.png' --json >info.json
[ "$(json "['texts']['command']" <info.json)" = "diffuse sample --checkpoint runs/tiny --num 2 --seed 5 --solver heun --steps 3 --out 'told of.png'" ] || fail "$(cat info.json)"
[ "$(json "['texts']['seed']" <info.json)" = 5 ] || fail "no seed in a picture: $(cat info.json)"
json "['texts']['sampling']" <info.json | grep -q '"solver":"heun","steps":3' || fail "no sampling in a picture: $(cat info.json)"
cp 'told of.png' before.png
eval "$(json "['texts']['command']" <info.json | sed "s#^diffuse#\"$diffuse\"#") >/dev/null 2>&1"
cmp before.png 'told of.png' || fail "the command in a picture does not make it again"
"$diffuse" info runs/seeded/samples/step-0000030.png | grep -q '^seed  *3$' || fail "a grid of a training does not tell its seed"
"$diffuse" info grey.png | grep -q 'does not say how it was made' || fail "info of a foreign picture"
"$diffuse" info l.safetensors | grep -q '^latents  *\[3, 1, 28, 28\]' || fail "info of latents: $("$diffuse" info l.safetensors)"
"$diffuse" info x.safetensors | grep -q '^checkpoint  *.*runs/tiny/checkpoint.safetensors' || fail "info of samples"

# latents know the network that made them
"$diffuse" sample --checkpoint runs/seeded --latents l.safetensors --out x.png >/dev/null 2>err.txt || fail "latents of another network"
grep -q "warning: l.safetensors: made with another network (step 30, ema weights, CRC-32" err.txt || fail "no word of another network: $(cat err.txt)"
"$diffuse" sample --checkpoint runs/tiny --latents h.safetensors --out x.png --quiet >/dev/null 2>err.txt
[ ! -s err.txt ] || fail "a warning without reason: $(cat err.txt)"

# --force takes a run's own files and no others; a result that cannot be written is a failure
mkdir -p mixed/checkpoints mixed/samples
touch mixed/config.json mixed/notes.txt mixed/checkpoints/{best.pt,step-0000003.safetensors} mixed/samples/{mine.png,step-best.png,step-0000009.png,step-0000009.png.1.tmp}
train --set train.steps=1 --out mixed --force >/dev/null 2>&1 || fail "train --force into a folder with other files"
for file in notes.txt checkpoints/best.pt samples/mine.png samples/step-best.png; do [ -e mixed/$file ] || fail "--force removed $file"; done
for file in checkpoints/step-0000003.safetensors samples/step-0000009.png samples/step-0000009.png.1.tmp; do [ ! -e mixed/$file ] || fail "--force left $file"; done
! train --dry-run --out fresh >/dev/full 2>err.txt || fail "a plan that could not be written was a success"
grep -q "cannot be written to standard output" err.txt || fail "a full standard output: $(cat err.txt)"

# a run that has lost its checkpoint is not begun anew without a word, and goes on from the newest copy that was kept
cp -r mixed lost
rm lost/checkpoint.safetensors
(expect_error 2 "checkpoint.safetensors is lost, and no whole copy was kept" train --resume lost) || fail "a lost checkpoint"
[ -s lost/metrics.jsonl ] || fail "the metrics of a run without checkpoint were emptied"
kept() { train --set train.sample_every=0 --set train.checkpoint_every=5 --set train.keep_checkpoints=4 "$@"; }
kept --out kept >/dev/null 2>&1
cp -r kept lost-kept
rm lost-kept/checkpoint.safetensors lost-kept/checkpoints/step-0000030.safetensors
"$diffuse" train --resume lost-kept --threads 1 >/dev/null 2>err.txt || fail "resume from a copy: $(cat err.txt)"
grep -q "checkpoint.safetensors is lost; taking the newest copy that is whole, .*step-0000025" err.txt || fail "no word of the copy: $(cat err.txt)"
cmp lost-kept/checkpoint.safetensors kept/checkpoint.safetensors || fail "a run resumed from a copy ends differently"

# going back to a kept checkpoint, with another learning rate; what came after it is kept as a run of its own
cp -r kept back
"$diffuse" train --resume back/checkpoints/step-0000015.safetensors --threads 1 --set train.learning_rate=0.01 >/dev/null 2>err.txt || fail "resume FILE: $(cat err.txt)"
grep -q "going back to step 15; what came after it is kept in $folder/back/abandoned/1" err.txt || fail "going back said: $(cat err.txt)"
grep -q "warning: the learning rate goes on with" err.txt || fail "no word of another learning rate: $(cat err.txt)"
! grep -q "learning rate.* as they were" err.txt || fail "the learning rate is said to be as it was: $(cat err.txt)"
cmp back/abandoned/1/checkpoint.safetensors kept/checkpoint.safetensors || fail "the abandoned checkpoint is lost"
! cmp -s back/checkpoint.safetensors kept/checkpoint.safetensors || fail "another learning rate changed nothing"
"$diffuse" train --resume back/abandoned/1 --threads 1 --set train.steps=32 >/dev/null 2>&1 || fail "an abandoned run cannot go on"

# a config.json that was changed by hand, or is gone
cp -r kept edited
sed -i 's/"steps": 30/"steps": 40/' edited/config.json
"$diffuse" train --resume edited --threads 1 >/dev/null 2>err.txt || fail "resume of an edited run: $(cat err.txt)"
grep -q "warning: $folder/edited/config.json is not the config of the checkpoint" err.txt || fail "an edited config.json: $(cat err.txt)"
rm edited/config.json
"$diffuse" train --resume edited --threads 1 --set train.steps=31 >/dev/null 2>err.txt || fail "resume without config.json: $(cat err.txt)"
[ -s edited/config.json ] || fail "config.json was not written again"

# --dry-run checks where the run would go
(expect_error 2 "already holds a run" train --config tiny.json --out kept --dry-run) || fail "--dry-run into a run"
(expect_error 2 "cannot create the folder" train --config tiny.json --out tiny.json/new --dry-run) || fail "--dry-run into a file"

# a folder that is moved amid a training is followed; a training whose folder was taken by another writes nothing there
"$diffuse" train --config tiny.json --threads 1 --set train.sample_every=0 --set train.checkpoint_every=50 --set train.steps=100000 --out moving >/dev/null 2>err.txt &
process=$!
while [ ! -s moving/metrics.jsonl ]; do kill -0 $process || fail "training died"; sleep 0.05; done
mv moving 'moved here'
train --set train.steps=5 --out moving >/dev/null 2>&1
cp moving/checkpoint.safetensors other.safetensors
kill -TERM $process
wait $process && fail "an interrupted training was a success"
cmp moving/checkpoint.safetensors other.safetensors || fail "a training wrote into another run"
tail -n 1 err.txt | grep -qF "resume it by: diffuse train --resume '$folder/moved here'" || fail "after a move: $(cat err.txt)"
"$diffuse" train --resume 'moved here' --threads 1 --set "train.steps=$(("$("$diffuse" info 'moved here' --json | json "['step']")" + 3))" >/dev/null 2>err.txt || fail "resume after a move: $(cat err.txt)"

# data: found from everywhere, and where they are now
(cd / && "$diffuse" eval --checkpoint "$folder/spots" --metric roundtrip --num 2 --steps 2 >/dev/null 2>"$folder/err.txt") || fail "eval from elsewhere: $(cat err.txt)"
mv mnist mnist-moved
(expect_error 2 "no t10k-images-idx3-ubyte .* say where it is .*--data DIR" eval --checkpoint spots --metric roundtrip --num 2 --steps 2) || fail "eval without data"
"$diffuse" eval --checkpoint spots --metric roundtrip --data mnist-moved --num 2 --steps 2 >/dev/null 2>err.txt || fail "eval --data: $(cat err.txt)"
"$diffuse" encode --checkpoint spots --input 'mnist:test[0:1]' --data mnist-moved --steps 2 --out d.safetensors >/dev/null 2>err.txt || fail "encode --data: $(cat err.txt)"
"$diffuse" train --resume spots --threads 1 --set dataset.dir=mnist-moved --set train.steps=22 >/dev/null 2>err.txt || fail "resume with moved data: $(cat err.txt)"
"$diffuse" info spots --json | json "['config']['dataset']['dir']" | grep -qx "$folder/mnist-moved" || fail "the run does not remember its data"
"$diffuse" eval --checkpoint spots --metric nll --ode-steps 2 --json --quiet >out.txt 2>err.txt || fail "nll of a small test set: $(cat out.txt err.txt)"
mkdir tenth
for file in mnist-moved/*; do
    python3 - "$file" "tenth/${file#*/}" <<'END'
import struct, sys
data, images = open(sys.argv[1], 'rb').read(), 'images' in sys.argv[1]
head = 16 if images else 8
open(sys.argv[2], 'wb').write(data[:4] + struct.pack('>I', 20) + data[8:head] + data[head:head + 20 * (784 if images else 1)])
END
done
[ "$("$diffuse" eval --checkpoint spots --metric nll --ode-steps 2 --json --quiet --data tenth | json "['images']")" = 20 ] || fail "the default number of images does not fit the data"
"$diffuse" eval --checkpoint spots --data tenth --num 8 --steps 2 >/dev/null 2>err.txt || fail "fid of other data: $(cat err.txt)"
grep -q "warning: the network was trained on other data" err.txt || fail "no word of other data: $(cat err.txt)"
"$diffuse" train --config tiny.json --threads 1 --set dataset.kind=mnist --set dataset.dir=tenth --set train.steps=1 --out fewer >/dev/null 2>err.txt || fail "a limit above the data: $(cat err.txt)"
grep -q "warning: dataset.limit is 200, but there are 20 images" err.txt || fail "no word of a limit above the data: $(cat err.txt)"

# numbers are decimal; configs and latents may come through pipes
[ "$("$diffuse" sample --checkpoint runs/tiny --steps 010 --num 02 --out t.png --json --quiet | json "['steps']")" = 10 ] || fail "010 is not ten"
"$diffuse" train --config <(cat tiny.json) --dry-run >/dev/null 2>err.txt || fail "a config through a pipe: $(cat err.txt)"
"$diffuse" sample --checkpoint runs/tiny --latents <(cat l.safetensors) --out t.png >/dev/null 2>err.txt || fail "latents through a pipe: $(cat err.txt)"
"$diffuse" sample --checkpoint runs/tiny --steps 2 --num 1 --out /dev/stdout 2>err.txt | cat >out.txt || true
grep -q "is standard output, where the result is printed" err.txt || fail "a picture amid the result: $(cat err.txt)"
mkdir gone
(cd gone && rmdir ../gone && ! "$diffuse" --version >/dev/null 2>../err.txt) || fail "a current folder that is gone"
grep -q "the current folder was removed" err.txt || fail "a current folder that is gone: $(cat err.txt)"

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
"$diffuse" sample --checkpoint runs/tiny --num 1 --steps 2 --scale 1 --out pipe.png >/dev/null 2>&1 || fail "sample into a pipe"
wait $!
python3 - piped.png one.png <<'END' || fail "another picture came through a pipe"
import struct, sys
def pixels(path):  # what is in its chunks IDAT; the texts tell of the file's name
    data, at, found = open(path, 'rb').read(), 8, b''
    while at < len(data):
        size = struct.unpack('>I', data[at:at + 4])[0]
        found += data[at + 8:at + 8 + size] if data[at + 4:at + 8] == b'IDAT' else b''
        at += 12 + size
    return found
assert pixels(sys.argv[1]) == pixels(sys.argv[2])
END
"$diffuse" sample --checkpoint runs/tiny --num 1 --steps 2 --out /dev/null >/dev/null 2>&1 && [ -c /dev/null ] || fail "sample --out /dev/null"

# points: the same commands, with tables and pictures of points
cat >points.json <<'END'
{"dataset": {"kind": "two-moons", "limit": 1000}, "schedule": {"kind": "ve"},
 "model": {"kind": "mlp", "width": 32, "blocks": 2, "classes": 0},
 "train": {"steps": 60, "batch_size": 64, "warmup_steps": 5, "log_every": 20, "sample_every": 30, "checkpoint_every": 30}}
END
"$diffuse" train --config points.json >/dev/null 2>err.txt || fail "train on points: $(cat err.txt)"
[ "$(head -n 1 runs/points/samples/step-0000060.csv)" = x,y ] || fail "no samples of points in the run folder"
points() { "$diffuse" sample --checkpoint runs/points --steps 5 --solver heun "$@" >out.txt 2>err.txt || fail "sample of points: $(cat err.txt)"; }
points --num 50 --out all.csv
points --num 20 --threads 1 --out some.csv --save-tensors some.safetensors
[ "$(head -n 1 all.csv)" = x,y ] && [ "$(wc -l <all.csv)" = 51 ] || fail "sample --out FILE.csv"
head -n 21 all.csv | cmp - some.csv || fail "a point depends on how many are drawn"
grep -q "^20 points by heun" out.txt || fail "sample of points printed: $(cat out.txt)"
[ "$(tensors some.safetensors points)" = 20,2 ] || fail "points in a safetensors file: $(tensors some.safetensors points)"
points --num 50 --out field.svg --field 0.3,2
grep -q "score at sigma = 2" field.svg || fail "sample --field"
points --num 50 --out density.png --style density
"$diffuse" encode --checkpoint runs/points --input some.csv 'two-moons:test[0:4]' --solver heun --steps 200 --json >out.json 2>err.txt || fail "encode points: $(cat err.txt)"
[ "$(json "['num']" <out.json)" = 24 ] && json "['roundtrip_mse']" <out.json | python3 -c "assert float(input()) < 1e-3" || fail "encode points: $(cat out.json)"
"$diffuse" sample --checkpoint runs/points --latents latents.safetensors --out decoded.csv >/dev/null 2>err.txt || fail "decode points: $(cat err.txt)"
for metric in fisher "c2st --steps 5" roundtrip "nll --ode-steps 5"; do
    # shellcheck disable=SC2086  # a metric and its options
    "$diffuse" eval --checkpoint runs/points --metric $metric --num 500 --json >out.json 2>err.txt || fail "eval --metric $metric: $(cat err.txt)"
done
"$diffuse" eval --checkpoint runs/points --metric fisher --sigmas 0.5,2 --num 500 --plot fisher.svg >/dev/null 2>err.txt && [ -s fisher.svg ] || fail "eval --metric fisher --plot: $(cat err.txt)"
rm -f latents.safetensors

# posteriors: numbers that a network is told, of a simulator and of a table
"$diffuse" train --config points.json --set dataset.kind=simulator --set train.steps=30 --set model.classes=auto --out runs/posterior >/dev/null 2>err.txt || fail "train on a simulator: $(cat err.txt)"
"$diffuse" sample --checkpoint runs/posterior --given y1=0.1,y2=-0.2 --num 10 --out theta.csv >/dev/null 2>err.txt || fail "sample --given: $(cat err.txt)"
[ "$(head -n 1 theta.csv)" = theta1,theta2 ] || fail "columns of parameters: $(head -n 1 theta.csv)"
"$diffuse" eval --checkpoint runs/posterior --metric sbc --num 40 --steps 4 --plot sbc.svg --json >out.json 2>err.txt || fail "eval --metric sbc: $(cat err.txt)"
[ "$(json "['rows'][1]['column']" <out.json)" = theta2 ] && [ -s sbc.svg ] || fail "eval --metric sbc: $(cat out.json)"
"$diffuse" eval --checkpoint runs/posterior --metric c2st --observations 1 --num 200 --steps 4 --json >out.json 2>err.txt || fail "eval --metric c2st: $(cat err.txt)"
python3 -c "
import random
random.seed(1)
print('size,colour,\"the, third\"')
for _ in range(300): print(f'{random.gauss(5, 2)},{random.random()},{random.gauss(0, 1):.3f}')" >table.csv
"$diffuse" train --config points.json --set dataset.kind=table --set dataset.limit=0 --set dataset.file=table.csv --set 'dataset.condition=["size"]' --set train.steps=30 --out runs/table >/dev/null 2>err.txt || fail "train on a table: $(cat err.txt)"
"$diffuse" sample --checkpoint runs/table --given size=4 --num 5 --out rows.csv >/dev/null 2>err.txt || fail "sample of a table: $(cat err.txt)"
[ "$(head -n 1 rows.csv)" = 'colour,"the, third"' ] || fail "columns of a table: $(head -n 1 rows.csv)"
printf 'a,b\n1,2\n3,x\n' >letter.csv
printf 'a,b\n1,2\n' >row.csv

# denoisers in closed form, which need no training
"$diffuse" sample --analytic mixture --config points.json --solver heun --steps 10 --num 20 --out exact.csv >/dev/null 2>err.txt || fail "sample --analytic mixture: $(cat err.txt)"
"$diffuse" sample --analytic gaussian --checkpoint runs/points --num 20 --out normal.csv >/dev/null 2>err.txt || fail "sample --analytic gaussian: $(cat err.txt)"
for name in gaussian empirical local; do
    "$diffuse" sample --analytic $name --config tiny.json --set dataset.limit=20 --steps 4 --num 2 --out $name.png >out.txt 2>err.txt || fail "sample --analytic $name: $(cat err.txt)"
done
"$diffuse" info local.png | grep -q "the denoiser local in closed form" || fail "a picture that does not tell what drew it: $("$diffuse" info local.png)"
rm -f ./*.svg fisher.svg exact.csv normal.csv empirical.png gaussian.png local.png density.png theta.csv rows.csv decoded.csv all.csv some.csv some.safetensors

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
nan = json.dumps({'latents': {'dtype': 'F32', 'shape': [1, 1, 28, 28], 'data_offsets': [0, 3136]}}).encode()
open('nan.safetensors', 'wb').write(struct.pack('<Q', len(nan)) + nan + struct.pack('<f', float('nan')) * 784)
write('odd.safetensors', 28, {'sampling': '{"solv": 1}'})
write('array.safetensors', 28, {'sampling': '[]'})
write('both.safetensors', 28, {'sampling': '{"steps": 2, "nfe": 2}'})
END
"$diffuse" sample --checkpoint runs/tiny --latents f16.safetensors --steps 2 --out f16.png >/dev/null 2>err.txt || fail "latents of F16: $(cat err.txt)"
grep -q "its latents are Half, taken as float32" err.txt || fail "no word about latents of F16: $(cat err.txt)"
rm f16.png
# the lab: a list, one experiment, its files, and what is missing without gnuplot
[ "$("$diffuse" lab | wc -l)" -eq "$(($("$diffuse" lab --json | json ".__len__()") + 1))" ] || fail "lab: $("$diffuse" lab)"
"$diffuse" lab fourier --input grey.png --seed 3 --out lab --json >out.json || fail "lab fourier: $(cat out.json)"
[ "$(json "[0]['name']" <out.json)" = fourier ] && [ "$(json "[0]['checks'][0]['holds']" <out.json)" = True ] || fail "lab --json"
json "[0]['files']" <out.json | tr -d "[]',"  | xargs ls >/dev/null || fail "lab: a file that it names is not there"
(cd lab && rm fourier-spectra.svg && gnuplot fourier-spectra.gnuplot && [ -s fourier-spectra.svg ]) || fail "the script does not draw the figure again"
PATH=/nowhere "$diffuse" lab heat --out bare >out.txt 2>err.txt || fail "lab without gnuplot: $(cat err.txt)"
grep -q "no pictures, for want of gnuplot; install it" err.txt && [ -s bare/heat-modes.csv ] && [ ! -e bare/heat-modes.svg ] || fail "lab without gnuplot: $(cat err.txt)"
rm -r lab bare

count=0 failures=0
while IFS='|' read -r pattern arguments; do
    case $pattern in ''|'#'*) continue ;; esac
    eval "set -- $arguments"
    (expect_error 2 "$pattern" "$@") || failures=$((failures + 1))
    count=$((count + 1))
done <"$table"
[ $failures = 0 ] || fail "$failures of $count wrong command lines"
echo "the command line works, and $count wrong ones are refused: $("$diffuse" --version)"
