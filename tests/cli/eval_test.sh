#!/usr/bin/env bash
# Measuring from the command line: clipping, tables, plots, data that moved:  tests/cli/eval_test.sh PATH/TO/diffuse
# shellcheck source=tests/cli/common.sh
source "$(dirname "$0")/common.sh"

make_tiny
sample() { "$diffuse" sample --checkpoint runs/tiny --steps 4 --seed 7 "$@" --out s.png 2>/dev/null >/dev/null; }

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

make_mnist

# without the input skip, so that x0 leaves [-1, 1] where it is not clipped
train --set dataset.kind=mnist --set dataset.dir=mnist --set model.input_skip=none --set schedule.steps=50 --set train.steps=20 --set train.sample_every=0 --out spots >/dev/null 2>&1
cp -r mnist more-classes # of the test images alone; they count as of none that the network knows
python3 -c "open('more-classes/t10k-labels-idx1-ubyte', 'r+b').write(b'\\0\\0\\x08\\x01\\0\\0\\0\\xc8' + bytes(i % 13 for i in range(200)))"
train --set dataset.kind=mnist --set dataset.dir=more-classes --set train.steps=4 --set train.validate_every=2 --set train.sample_every=0 --out more >/dev/null 2>err.txt || fail "held-out images of unknown classes: $(cat err.txt)"
fid() { "$diffuse" eval --checkpoint spots --num 8 --solver ddpm --steps 4 --json "$@" 2>/dev/null | json "['rows'][0]['fid']"; }
[ "$(fid)" = "$(fid --clip-x0)" ] && [ "$(fid)" != "$(fid --no-clip-x0)" ] || fail "eval does not clip as sample does"

# eval: a table of each metric
rows() { python3 -c "import json,sys; rows = json.load(sys.stdin)['rows']; print(len(rows), *rows[0])"; }
[ "$("$diffuse" eval --checkpoint spots --num 20 --vary solver=ddim,unipc --vary steps=2,3 --json 2>/dev/null | rows)" = \
    "4 solver spacing steps nfe guidance fid fid_se above_0.9 above_0.9_se as_asked as_asked_se seconds class_shares" ] || fail "eval --metric fid"
[ "$("$diffuse" eval --checkpoint spots --metric pr --num 20 --vary solver=ddim,unipc --steps 2 --json 2>/dev/null | rows)" = \
    "2 solver spacing steps nfe guidance precision precision_se recall recall_se nearest_train nearest_train_se copies copies_se seconds" ] || fail "eval --metric pr"
[ "$("$diffuse" eval --checkpoint runs/tiny --metric roundtrip --num 4 --vary solver=ddim,reversible --nfe 4 --json 2>/dev/null | rows)" = \
    "2 solver spacing steps nfe mse mse_se latent_mean latent_std" ] || fail "eval --metric roundtrip"
[ "$("$diffuse" eval --checkpoint runs/tiny --metric roundtrip --num 2 --vary solver=ddim,dopri5 --vary tolerance=0.1,0.01 --json --quiet | json "['rows'][2]['tolerance']")" = 0.01 ] || fail "a row does not tell what varies"
"$diffuse" eval --checkpoint spots --num 200 --steps 2 --vary guidance=1,2 --vary guidance_interval=0.3,3,1,20 --per-class --plot guidance.svg --json >eval.json 2>err.txt || fail "eval --plot: $(cat err.txt)"
[ "$(rows <eval.json)" = "33 solver spacing steps nfe guidance interval class fid fid_se floor floor_se above_0.9 above_0.9_se as_asked as_asked_se seconds class_shares" ] || fail "a table over scales and intervals: $(rows <eval.json)"
grep -q "interval 1,20" guidance.svg && grep -q "as_asked" guidance.svg && [ "$(json "['plot']" <eval.json)" = "$folder/guidance.svg" ] || fail "eval --plot"
"$diffuse" eval --checkpoint spots --num 20 --metric pr --vary nfe=2,4 --plot pr.png --quiet >/dev/null && [ "$("$diffuse" info pr.png --json | json "['width']")" = 1120 ] || fail "a plot over evaluations"
(PATH=/nowhere "$diffuse" eval --checkpoint spots --num 20 --vary nfe=2,4 --plot none.svg 2>&1 || true) | grep "gnuplot, which is not there; install it" >/dev/null || fail "no word about gnuplot"
# a gnuplot that fails takes no result along: the table, then one line that names the script, which is kept
mkdir broken && printf '#!/bin/sh\necho "gnuplot: no libwx.so" >&2; exit 127\n' >broken/gnuplot && chmod +x broken/gnuplot
status=0
PATH=$folder/broken:$PATH "$diffuse" eval --checkpoint spots --num 20 --vary nfe=2,4 --plot failed.svg --quiet >out.txt 2>err.txt || status=$?
[ $status = 1 ] && grep -q "unipc .* ± " out.txt && [ "$(wc -l <err.txt)" = 1 ] && [ ! -e failed.svg ] && [ -s failed.svg.gnuplot ] &&
    grep -q "failed.svg.gnuplot: gnuplot could not draw it: gnuplot: no libwx.so" err.txt || fail "eval with a gnuplot that fails: $(cat out.txt err.txt)"
# rows are of at most 100 columns, and said once where all goes to one screen
"$diffuse" eval --checkpoint spots --num 20 --vary steps=2,3 --quiet >out.txt
awk 'seen && length > 100 { exit 1 } /^ *solver/ { seen = 1 } END { exit !seen }' out.txt || fail "rows of an eval: $(cat out.txt)"
grep -q "^classes: equally many of each" out.txt || fail "eval does not say which classes it draws: $(cat out.txt)"
"$diffuse" eval --checkpoint spots --steps 2 --class data --per-class --num 200 --quiet >out.txt 2>err.txt || fail "eval --class data: $(cat err.txt)"
grep -q "^classes: in the shares of the test images" out.txt || fail "eval --class data: $(cat out.txt)"
DIFFUSE=$diffuse python3 - >out.txt <<'END' || fail "rows on a terminal: $(cat out.txt)"
import os, pty, sys
words, said = [os.environ['DIFFUSE'], *'eval --checkpoint spots --num 20 --vary solver=ddim,heun --steps 2'.split()], []
def read(terminal):
    said.append(os.read(terminal, 4096))
    return said[-1]
code = os.waitstatus_to_exitcode(pty.spawn(words, read))
text = b''.join(said).decode()
sys.exit(code or text.count('ddim ') != 1 or text.count('heun ') != 1 or '{' in text or 'floor: ' not in text)
END
# the weights that the checkpoint's config names are those that are measured
train --set dataset.kind=mnist --set dataset.dir=mnist --set train.steps=3 --set train.sample_every=0 --set sample.weights=raw --out raw >/dev/null 2>&1
first() { "$diffuse" eval --checkpoint raw --num 8 --steps 2 --json --quiet "$@" | json "['rows'][0]['fid']"; }
[ "$(first)" = "$(first --weights raw)" ] && [ "$(first)" != "$(first --weights ema)" ] || fail "eval measures other weights than the config names"
# a scale alone keeps the interval that the checkpoint's config gives
train --set dataset.kind=mnist --set dataset.dir=mnist --set train.steps=2 --set sample.guidance=2 --set 'sample.guidance_interval=[1,20]' --out interval >/dev/null 2>&1
[ "$("$diffuse" eval --checkpoint interval --num 20 --steps 3 --vary guidance=1,3 --json --quiet | json "['rows'][1]['interval']")" = 1,20 ] || fail "eval --guidance drops the checkpoint's interval"
train --set train.steps=3 --set schedule.steps=20 --out short >/dev/null 2>&1
[ "$("$diffuse" eval --checkpoint short --metric nll --num 2 --ode-steps 3 --json 2>/dev/null | rows)" = \
    "3 bound bits_per_dim bits_per_dim_se nfe" ] || fail "eval --metric nll"
echo '{"dataset": {"kind": "two-moons", "limit": 200}, "model": {"kind": "mlp", "width": 8, "blocks": 1}, "train": {"steps": 3, "label_dropout": 0, "sample_every": 0}}' >points.json
"$diffuse" train --config points.json --threads 1 --out undropped >/dev/null 2>err.txt || fail "train on labels alone: $(cat err.txt)"
(expect_error 2 "unconditional.*never trained: train.label_dropout is 0" eval --checkpoint undropped --metric fisher --num 20) || fail "a branch that was never trained"
"$diffuse" eval --checkpoint short --metric nll --num 2 >/dev/null 2>err.txt || fail "nll of 20 levels: $(cat err.txt)"
[ "$("$diffuse" eval --checkpoint runs/tiny --metric roundtrip --num 2 --vary solver=heun,rk4 --nfe 9 --json 2>/dev/null | json "['rows'][0]['nfe']")" = 8 ] || fail "--nfe of a round trip"
for option in --quiet --verbose; do
    "$diffuse" eval --checkpoint runs/tiny --metric roundtrip --num 4 --steps 2 $option >/dev/null 2>err$option.txt || fail "eval $option"
done
[ ! -s err--quiet.txt ] || fail "eval --quiet: $(cat err--quiet.txt)"
grep -q "^debug: .*step 30: LibTorch" err--verbose.txt || fail "eval --verbose: $(cat err--verbose.txt)"

# data: found from everywhere, and where they are now
(cd / && "$diffuse" eval --checkpoint "$folder/spots" --metric roundtrip --num 2 --steps 2 >/dev/null 2>"$folder/err.txt") || fail "eval from elsewhere: $(cat err.txt)"
mv mnist mnist-moved
(expect_error 2 "no t10k-images-idx3-ubyte .* say where it is by --data" eval --checkpoint spots --metric roundtrip --num 2 --steps 2) || fail "eval without data"
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
