#!/usr/bin/env bash
# A training that is killed again and again (SIGKILL) and resumed ends with the same files, bit for bit, as one that
# never was:  tests/kill_test.sh PATH/TO/diffuse [long]
# It saves after every step. Each second kill waits for a save to begin; the others come at any moment. How many came
# amid a save is counted by the unfinished files that they leave.
set -euo pipefail
diffuse=$(realpath "$1")
kills=4
[ "${2:-}" != long ] || kills=20
seed=${SEED:-$RANDOM}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
RANDOM=$seed
echo "seed $seed (set SEED to repeat)"

cat >config.json <<END
{"dataset": {"kind": "digits", "limit": 100},
 "model": {"base_channels": 16, "channel_multipliers": [1, 2], "patch_size": 2, "dropout": 0.1},
 "train": {"steps": $((kills * 4)), "batch_size": 8, "log_every": 3, "sample_every": 30, "checkpoint_every": 1,
           "keep_checkpoints": 2}}
END
"$diffuse" train --threads 1 --config config.json --out whole >/dev/null 2>&1

saving() { compgen -G "killed/*.$process.tmp" >/dev/null || compgen -G "killed/checkpoints/*.$process.tmp" >/dev/null; }
done=0 amid=0 arguments=(--config config.json --out killed)
while :; do
    "$diffuse" train --threads 1 "${arguments[@]}" >out.txt 2>err.txt &
    process=$!
    if [ "$done" -lt "$kills" ]; then
        if [ $((done % 2)) = 0 ]; then
            sleep "0.$((RANDOM % 70 + 10))"
        else
            until saving || ! kill -0 $process 2>/dev/null; do :; done
        fi
        if kill -KILL $process 2>/dev/null; then done=$((done + 1)); fi
    fi
    status=0
    wait $process 2>/dev/null || status=$?
    [ $status = 0 ] && break
    [ $status = 137 ] || { echo "FAILED: exit code $status: $(cat err.txt)" >&2; exit 1; }
    if saving; then amid=$((amid + 1)); fi
    [ ! -e killed/config.json ] || arguments=(--resume killed)
done

[ "$kills" -lt 10 ] || [ $amid -ge 1 ] || { echo "FAILED: no kill came amid a save" >&2; exit 1; }
timeless() { sed 's/,"images_per_second.*//' "$1"; }
cmp whole/checkpoint.safetensors killed/checkpoint.safetensors
cmp whole/config.json killed/config.json
diff -r whole/samples killed/samples
diff -r whole/checkpoints killed/checkpoints
diff <(timeless whole/metrics.jsonl) <(timeless killed/metrics.jsonl)
[ -z "$(find killed -name '*.tmp')" ]
# a kill loses nothing of the log, which has the lines of every beginning
head -n 1 killed/log.txt | grep -q " training [0-9]* parameters"
tail -n 1 killed/log.txt | grep -qE " trained | is finished: "  # the latter where a kill came after the last save
! grep -vE "^[0-9-]{10}T[^ ]+ (debug|info|warning|error) " killed/log.txt
echo "killed $done times, $amid of them amid a save: the same checkpoint, copies, samples and metrics"
