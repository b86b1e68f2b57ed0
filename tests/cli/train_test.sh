#!/usr/bin/env bash
# Training from the command line: its files, its log, signals, the terminal:  tests/cli/train_test.sh PATH/TO/diffuse
# shellcheck source=tests/cli/common.sh
source "$(dirname "$0")/common.sh"

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

# a training that diverges keeps its last good checkpoint, and says how to go on
code=0
train --set train.learning_rate=10 --set train.weight_decay=10 --set train.warmup_steps=0 --set train.max_bad_steps=4 --set train.steps=1000 --out diverged >out.txt 2>err.txt || code=$?
[ $code = 1 ] || fail "a training that diverges gave exit code $code"
tail -n 1 err.txt | grep -qE "^error: neither loss nor gradient was finite in the last 4 steps, up to step [0-9]+; the checkpoint of step [0-9]+ is kept; resume it with lower learning rates: diffuse train --resume $folder/diverged --set train.learning_rate=1 --set train.muon_learning_rate=0.0005$" || fail "a training that diverges: $(cat err.txt)"

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
[ $code = 2 ] && [ "$(cat err.txt)" = "error: $folder/blocked/log.txt is a folder, where a file of the run would be; give the run another folder" ] || fail "a log.txt that cannot be opened: $(cat err.txt)"

# on a terminal: colours unless NO_COLOR is set, a progress line unless --quiet
on_terminal() { python3 -c 'import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)' "$@"; }
code=0
TERM=xterm on_terminal "$diffuse" sample --checkpoint missing >out.txt || code=$?
[ $code = 2 ] || fail "an error on a terminal gave exit code $code"
grep -q $'^\033\[31m\033\[1merror: \033\[mcannot read' out.txt || fail "no colour on a terminal: $(cat -v out.txt)"
NO_COLOR=1 TERM=xterm on_terminal "$diffuse" sample --checkpoint missing >out.txt || true
grep -q '^error: cannot read' out.txt || fail "colours in spite of NO_COLOR: $(cat -v out.txt)"

"$diffuse" train --config tiny.json --estimate --quiet >out.txt && grep -Eq "^about [0-9:]+ on cpu with [0-9]+ threads: 30 steps at [0-9]+ images/s" out.txt && [ ! -e runs/tiny.json ] || fail "train --estimate: $(cat out.txt)"

# to any command that one is about to run, for what is left of it
"$diffuse" train --config tiny.json --out runs/tiny --force --estimate --quiet | grep -q ": 30 steps at" || fail "--estimate beside --out and --force"
"$diffuse" train --resume runs/tiny --set train.steps=40 --estimate --quiet | grep -q ": 10 steps at" || fail "--estimate of what is left"
[ "$("$diffuse" info runs/tiny --json | json "['step']")" = 30 ] || fail "--estimate trained a run"
mkdir flat
python3 -c "
import struct, zlib
def chunk(kind, data): return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
for i in range(4): open(f'flat/{i}.png', 'wb').write(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 8, 8, 8, 0, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(bytes([0] + [i] * 8) * 8)) + chunk(b'IEND', b''))"
for how in --dry-run --estimate; do
    XDG_CACHE_HOME=$top/unused "$diffuse" train --config "$project/configs/demo.json" --set dataset.kind=images --set dataset.dir=flat --set dataset.test_share=0 --set dataset.size=32 $how >/dev/null 2>err.txt || fail "demo.json on a flat folder: $(cat err.txt)"
    [ ! -e "$top/unused" ] || fail "$how writes a cache"
    grep -q "left out of the defaults: sample.guidance 1.4, sample.guidance_interval" err.txt || fail "nothing said of guidance without classes: $(cat err.txt)"
done

# a reader that has seen enough is no failure
{ "$diffuse" help train 2>err.txt; echo $? >code.txt; } | { exec <&-; sleep 1; }
[ "$(cat code.txt)" = 0 ] && [ ! -s err.txt ] || fail "a closed pipe: $(cat code.txt err.txt)"

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

# --force takes a run's own files and no others; a result that cannot be written is a failure
mkdir -p mixed/checkpoints mixed/samples
touch mixed/config.json mixed/notes.txt mixed/checkpoints/{best.pt,step-0000003.safetensors} mixed/samples/{mine.png,step-best.png,step-0000009.png,step-0000009.png.1.tmp}
train --set train.steps=1 --out mixed --force >/dev/null 2>&1 || fail "train --force into a folder with other files"
for file in notes.txt checkpoints/best.pt samples/mine.png samples/step-best.png; do [ -e mixed/$file ] || fail "--force removed $file"; done
for file in checkpoints/step-0000003.safetensors samples/step-0000009.png samples/step-0000009.png.1.tmp; do [ ! -e mixed/$file ] || fail "--force left $file"; done
! train --dry-run --out fresh >/dev/full 2>err.txt || fail "a plan that could not be written was a success"
grep -q "cannot be written to standard output" err.txt || fail "a full standard output: $(cat err.txt)"

# a thread for each core that the process may use; signals that were ignored stay so
[ "$(OMP_NUM_THREADS=1 "$diffuse" info --json | json "['threads']")" = 1 ] || fail "OMP_NUM_THREADS is not heeded"
[ "$(taskset -c "$(taskset -cp $$ | grep -oE '[0-9]+$')" "$diffuse" info --json | json "['threads']")" = 1 ] || fail "taskset is not heeded"
(trap '' INT && exec "$diffuse" train --config tiny.json --threads 1 --set train.steps=200 --set train.sample_every=0 --out ignoring >/dev/null 2>err.txt) &
process=$!
while [ ! -s ignoring/metrics.jsonl ]; do kill -0 $process || fail "training died"; sleep 0.05; done
kill -INT $process
wait $process || fail "a SIGINT that was ignored ended a training: $(cat err.txt)"
