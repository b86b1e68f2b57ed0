#!/usr/bin/env bash
# A disk that is full, a folder that cannot be written and one that vanishes each end a training with one clear line,
# the checkpoint whole, nothing half-written, and a way to go on:  tests/disk_test.sh PATH/TO/diffuse
# Needs root to mount small file systems; elsewhere a limit on the size of files stands in for the full disk.
set -euo pipefail
diffuse=$(realpath "$1")
folder=$(mktemp -d)
trap 'umount "$folder/disk" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
mkdir disk

fail() { echo "FAILED: $*" >&2; exit 1; }
cat >config.json <<'END'
{"dataset": {"kind": "digits", "limit": 100},
 "model": {"base_channels": 16, "channel_multipliers": [1, 2], "patch_size": 2},
 "train": {"steps": 400, "batch_size": 8, "log_every": 1, "sample_every": 0, "checkpoint_every": 10, "decay": "none"}}
END
# fails CODE PATTERN ARGUMENT...: the exit code, and a last line on stderr that is the only error and matches
fails() {
    local code=$1 pattern=$2 status=0
    shift 2
    "$diffuse" "$@" >out.txt 2>err.txt || status=$?
    [ $status = "$code" ] || fail "exit code $status: $(cat err.txt)"
    [ "$(grep -c '^error: ' err.txt)" = 1 ] || fail "not one error: $(cat err.txt)"
    tail -n 1 err.txt | grep -qE "^error: .*$pattern" || fail "'$pattern' is not in: $(tail -n 1 err.txt)"
    [ -z "$(find . -name '*.tmp')" ] || fail "left behind: $(find . -name '*.tmp')"
}
fill() { dd if=/dev/zero of="disk/filler$RANDOM" bs=1k "$@" status=none 2>/dev/null || true; }

# a limit on the size of files
(ulimit -f 100 && fails 1 "cannot write .*: File too large" train --config config.json --out limited)

# the folder vanishes
("$diffuse" train --config config.json --set train.steps=100000 --out vanished >/dev/null 2>err.txt || echo $? >status) &
while [ ! -s vanished/metrics.jsonl ]; do sleep 0.05; done
rm -rf vanished
wait
[ "$(cat status)" = 1 ] || fail "a vanished folder gave exit code $(cat status)"
tail -n 1 err.txt | grep -q '^error: .*No such file or directory' || fail "a vanished folder: $(tail -n 1 err.txt)"

if ! mount -t tmpfs -o size=8m none disk 2>/dev/null; then
    echo "passed, but for the full disk: a file system cannot be mounted here (that takes root)"
    exit 0
fi

# a disk that has no room for another checkpoint
"$diffuse" train --config config.json --set train.steps=50 --out whole >/dev/null 2>&1
"$diffuse" train --config config.json --set train.steps=20 --out disk/run >/dev/null 2>&1
cp disk/run/checkpoint.safetensors before
fill count=$(($(df --output=avail disk | tail -n 1) - 60))
fails 1 "cannot write .*checkpoint.safetensors: No space left" train --resume disk/run --set train.steps=50
cmp before disk/run/checkpoint.safetensors || fail "the checkpoint was touched"

# a disk that has no room for anything
fill
fails 1 "No space left" train --resume disk/run --set train.steps=50
cmp before disk/run/checkpoint.safetensors || fail "the checkpoint was touched"
fails 1 "No space left" sample --checkpoint disk/run --num 64 --steps 2 --out disk/out.png
[ ! -e disk/out.png ] || fail "half an image was left"

# room again: the run goes on as if nothing had been
rm disk/filler*
"$diffuse" train --resume disk/run --set train.steps=50 >/dev/null 2>err.txt || fail "going on failed: $(cat err.txt)"
cmp whole/checkpoint.safetensors disk/run/checkpoint.safetensors || fail "the end is not the same"

# a disk that cannot be written
mount -o remount,ro disk
fails 2 "Read-only file system" train --resume disk/run --set train.steps=60
fails 2 "Read-only file system" train --config config.json --out disk/other
fails 2 "Read-only file system" sample --checkpoint disk/run --num 1 --steps 2 --out disk/out.png
echo "passed"
