#!/usr/bin/env bash
# Several processes that train together, by mpirun:  tests/cli/mpi_test.sh PATH/TO/diffuse [long]
# Whatever their number, and whatever happens to one of them, the run ends with the same files, bit for bit.
# shellcheck source=tests/cli/common.sh
source "$(dirname "$0")/common.sh"
command -v mpirun >/dev/null || { echo "skipped: there is no mpirun"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
kills=4 steps=400
[ "${2:-}" != long ] || kills=20 steps=1500
RANDOM=${SEED:=$RANDOM}
echo "seed $SEED (set SEED to repeat)"

mpirun=(mpirun --oversubscribe --bind-to none)
mpi() { "${mpirun[@]}" -n "$1" "$diffuse" "${@:2}"; } # PROCESSES ARGUMENT...
"${mpirun[@]}" -n 2 true 2>err.txt || { echo "skipped: mpirun does not start here: $(grep -m 1 . err.txt)"; exit 77; }
mpi 2 info >/dev/null 2>err.txt || { grep -q "built without MPI" err.txt || fail "$(cat err.txt)"; echo "skipped: built without MPI"; exit 77; }

# 8 parts of 4 examples; a copy of each fourth checkpoint
sed -i 's/"batch_size": 16/"batch_size": 32, "keep_checkpoints": 9/; s/"checkpoint_every": 15/"checkpoint_every": 4/; s/"steps": 30/"steps": 12/' tiny.json
sed 's/"steps": 12/"steps": '$steps'/; s/"checkpoint_every": 4/"checkpoint_every": 100/; s/"sample_every": 15/"sample_every": 200/' tiny.json >long.json

same_runs() { # RUN RUN
    cmp "$1/checkpoint.safetensors" "$2/checkpoint.safetensors" || fail "$2 has other weights than $1"
    diff -r "$1/samples" "$2/samples" || fail "$2 drew other samples than $1"
    diff <(sed 's/,"images_per_second.*//' "$1/metrics.jsonl") <(sed 's/,"images_per_second.*//' "$2/metrics.jsonl") || fail "$2 has other metrics than $1"
}
quietly() { "$@" >out.txt 2>err.txt || fail "$*: $(cat err.txt)"; }

# however many processes and threads there are
quietly "$diffuse" train --config tiny.json --threads 1 --out one
for processes in 2 3 4; do
    quietly mpi "$processes" train --config tiny.json --threads $((processes % 2 + 1)) --out "of-$processes"
    same_runs one "of-$processes"
    [ "$(cat out.txt)" = "$folder/of-$processes" ] || fail "the result is printed as: $(cat out.txt)"
    [ "$(grep -c "in each of $processes processes" err.txt)" = 1 ] || fail "not one process tells of the training: $(cat err.txt)"
done
cp -r of-4 again
quietly mpi 2 train --resume again/checkpoints/step-0000008.safetensors --threads 1
same_runs one again

# samples and measures
draw=(sample --checkpoint one --num 70 --steps 3)
quietly "$diffuse" "${draw[@]}" --out one.png --save-tensors one.safetensors
quietly mpi 3 "${draw[@]}" --out three.png --save-tensors three.safetensors
cmp one.safetensors three.safetensors || fail "three processes drew others"
[ "$(tail -n +2 out.txt)" = "$folder/three.png
$folder/three.safetensors" ] || fail "sample printed $(cat out.txt)"
measure=(eval --checkpoint one --metric roundtrip --num 40 --vary steps=2,4 --json)
"$diffuse" "${measure[@]}" 2>/dev/null | sed 's/"seconds": *[0-9.e+-]*//' >one.json
mpi 2 "${measure[@]}" 2>/dev/null | sed 's/"seconds": *[0-9.e+-]*//' >two.json
cmp one.json two.json || fail "two processes measured something else: $(cat two.json)"

# --resume auto begins, goes on and finds nothing to do
for processes in 2 4 1; do
    quietly mpi "$processes" train --config tiny.json --out auto --resume auto
    [ "$(cat out.txt)" = "$folder/auto" ] || fail "--resume auto printed $(cat out.txt)"
    if [ "$processes" = 2 ]; then
        cp one/checkpoints/step-0000004.safetensors auto/checkpoint.safetensors
        rm auto/checkpoints/*
    fi
done
grep -q "is finished" err.txt || fail "a finished run: $(cat err.txt)"
cmp one/checkpoint.safetensors auto/checkpoint.safetensors || fail "--resume auto did not go on where the run was"

# what is refused is refused by one line, and leaves nothing
refused() { # CODE PATTERN COMMAND...
    local status=0
    "${@:3}" >out.txt 2>err.txt || status=$?
    [ "$status" = "$1" ] || fail "${*:3} exited $status: $(cat err.txt)"
    grep -qE -- "$2" err.txt || fail "'$2' is not in: $(cat err.txt)"
    [ "$(grep -cE '^(error|warning): ' err.txt)" = 1 ] || fail "not one line: $(cat err.txt)"
    [ ! -e refused ] || fail "a refused training left a folder"
}
unlike() { # ARGUMENTS OF THE SECOND PROCESS...
    "${mpirun[@]}" -n 1 "$diffuse" train --config tiny.json --out refused : -n 1 "$diffuse" train "$@"
}
refused 2 "the config of rank 1 \(.*, process [0-9]+\) is not that of the first" unlike --config tiny.json --out refused --set train.learning_rate=0.1
refused 2 "rank 1 \(.*\): .*missing.json" unlike --config missing.json --out refused
refused 2 "batch_size 8 has 2 parts of 4, too few for 3 processes" mpi 3 train --config tiny.json --out refused --set train.batch_size=8
refused 2 "unknown option '--stpes'" mpi 2 train --config tiny.json --stpes 3
refused 2 "already holds a run" mpi 2 train --config tiny.json --out one

# a longer training, as it must end
quietly "$diffuse" train --config long.json --threads 1 --out whole
begin() { # PROCESSES RUN ARGUMENT...
    : >err.txt
    "${mpirun[@]}" -n "$1" "$diffuse" train --config long.json --threads 1 --out "$2" --resume auto "${@:3}" >out.txt 2>err.txt &
    process=$!
    until grep -q "training: step" err.txt; do kill -0 $process 2>/dev/null || return 0; sleep 0.05; done
}
ranks() { pgrep -P $process -x diffuse; }
rank() { ranks | sed -n "$(($1 + 1))p"; }
ended() { status=0; wait $process || status=$?; }

# a signal to one of them stops all at the same step, which is saved
begin 3 stopped
kill -TERM "$(rank 2)"
ended
[ $status = 143 ] || fail "a stopped training exited $status: $(cat err.txt)"
[ "$(grep -c "error: interrupted; step [0-9]* of $steps is saved" err.txt)" = 1 ] || fail "a stopped training said $(cat err.txt)"
begin 2 stopped
ended
same_runs whole stopped

# one that hangs is named when the patience is at its end
begin 3 hanging --patience 2
hangs=$(rank 1)
kill -STOP "$hangs"
ended
kill -KILL "$hangs" 2>/dev/null || true
[ $status = 1 ] || fail "a hanging training exited $status: $(cat err.txt)"
[ "$(grep -c "rank 1 (.*, process $hangs) did not answer for [0-9.]* s and was given up" err.txt)" = 1 ] || fail "a hanging process: $(cat err.txt)"
begin 1 hanging
ended
same_runs whole hanging

# killed again and again, each rank in its turn
named=0
for ((kill = 0; kill < kills; ++kill)); do
    begin 4 killed
    sleep "0.$((RANDOM % 60 + 10))"
    victim=$(rank $((kill % 4)) || true)
    kill -KILL "$victim" 2>/dev/null || { ended; break; }
    ended
    [ $status != 0 ] || { echo "it had ended before"; break; }
    # mpirun leaves the others one second to say so, or says so itself
    grep -qE "rank $((kill % 4)) \(.*, process $victim\) did not answer|process rank $((kill % 4)) " err.txt || fail "killed rank $((kill % 4)), process $victim: $(cat err.txt)"
    named=$((named + 1))
    [ "$(find killed -name checkpoint.safetensors)" ] || fail "nothing is saved"
done
begin 2 killed
ended
[ $status = 0 ] || fail "after $kills kills: $(cat err.txt)"
same_runs whole killed
[ $named -ge 2 ] || fail "the training was too short for $kills kills"
echo "the same files from 1, 2, 3 and 4 processes, and after $named kills"
