#!/usr/bin/env bash
# Going on with a run: what is lost, changed or moved:  tests/cli/resume_test.sh PATH/TO/diffuse
# shellcheck source=tests/cli/common.sh
source "$(dirname "$0")/common.sh"

make_tiny --set train.steps=1 --set train.sample_every=0 --out mixed

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
