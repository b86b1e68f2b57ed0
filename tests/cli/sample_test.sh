#!/usr/bin/env bash
# Sampling from the command line: solvers, labels, guidance, images, pipes:  tests/cli/sample_test.sh PATH/TO/diffuse
# shellcheck source=tests/cli/common.sh
source "$(dirname "$0")/common.sh"

make_tiny
make_tiny --seed 3 --out runs/seeded

# sampling: every solver; the same images whatever the batch, the threads and the number
solvers=$("$project/scripts/names" "$diffuse" sample --solver)
[ "$(wc -l <<<"$solvers")" -ge 13 ] || fail "sample --help lists no solvers: $solvers"
for solver in $solvers; do
    "$diffuse" sample --checkpoint runs/tiny --solver $solver --steps 4 --num 5 --out $solver.png >out.txt 2>/dev/null || fail "sample $solver"
    [ "$(tail -n 1 out.txt)" = "$folder/$solver.png" ] || fail "sample did not print the path of its image"
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
cmp a.safetensors b.safetensors || fail "the images depend on --batch or --threads"
"$diffuse" sample --checkpoint runs/tiny --steps 2 --num 2 --out s.png --quiet >out.txt 2>err.txt
[ "$(tail -n 1 out.txt)" = "$folder/s.png" ] && [ ! -s err.txt ] || fail "sample --quiet: $(cat out.txt err.txt)"
"$diffuse" sample --checkpoint runs/tiny --steps 2 --num 2 --out s.png --verbose >/dev/null 2>err.txt
grep -q "^debug: $folder/runs/tiny/checkpoint.safetensors, step 30: LibTorch .* threads" err.txt || fail "sample --verbose: $(cat err.txt)"
result=$("$diffuse" sample --checkpoint runs/tiny/checkpoint.safetensors --solver heun --steps 4 --num 3 --out s.png --json 2>/dev/null)
[ "$(json "['nfe']" <<<"$result")" = 7 ] || fail "--json: $result"
[ "$(json "['png']" <<<"$result")" = "$folder/s.png" ] || fail "--json: $result"

[ "$("$diffuse" sample --checkpoint runs/tiny --show-grid --steps 5 --max-ratio 10 --json | json "[0]['ratio'] <= 10")" = True ] || fail "--max-ratio"

# labels and guidance: classes that follow one another, columns of classes, the same images whatever the batch
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
cmp a.safetensors b.safetensors || fail "guided images depend on --batch or --threads"
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

# defaults of the config that do not go with what is asked are left out, and what is left is said
train --set sample.steps=5 --set sample.guidance=1.5 --set 'sample.guidance_interval=[1,10]' --set schedule.kind=cosine --out defaults >/dev/null 2>&1
defaults() { "$diffuse" sample --checkpoint defaults --num 1 --out s.png "$@" >out.txt 2>err.txt || fail "sample $*: $(cat err.txt)"; }
defaults --guidance 4
grep -q "guided by scale 4 (w = 3) where sigma / alpha is in (1, 10\]" out.txt || fail "the interval is not said: $(cat out.txt)"
defaults --guidance 4 --json
[ "$(json "['guidance_interval']" <out.txt)" = "[1.0, 10.0]" ] || fail "the interval is not in the JSON: $(cat out.txt)"
defaults --guidance 0 --save-tensors zero.safetensors
grep -q "in 5 steps (5 network evaluations each), guided by scale 0 (w = -1): " out.txt || fail "--guidance 0 obeys the config's interval: $(cat out.txt)"
defaults --class none --save-tensors none.safetensors
grep -q "left out of the defaults: sample.guidance 1.5, sample.guidance_interval .* (of no class" err.txt || fail "nothing said of guidance without classes: $(cat err.txt)"
defaults --solver dopri5
grep -q "by dopri5 in 3 steps " out.txt && grep -q "left out of the defaults: sample.steps 5 (for sample.solver unipc)" err.txt || fail "another solver takes the config's steps: $(cat out.txt err.txt)"
defaults --solver unipc
grep -q "by unipc in 5 steps " out.txt || fail "the config's own solver loses its steps: $(cat out.txt)"
[ "$("$diffuse" sample --checkpoint defaults --solver ddpm --show-grid --json --quiet --num 3 --out s.png | json ".__len__()")" = 992 ] || fail "ddpm does not take every level"
[ "$("$diffuse" sample --checkpoint defaults --solver ddpm --steps 1000 --show-grid --json | json "[0]['t']")" = 1000.0 ] || fail "ddpm in 1000 steps does not begin at T"
expect_error 2 "expected 1 to 991, or --max-ratio inf, by which it begins at t = 1000" sample --checkpoint defaults --solver heun --guidance 1.5 --guidance-interval 1,10 --steps 1000
"$diffuse" eval --checkpoint defaults --class none --num 10 --json >out.txt 2>err.txt || fail "eval --class none: $(cat err.txt)"
# infinity survives the config, the command line and the texts of files
train --set schedule.kind=flow --set sample.max_ratio=inf --set train.steps=2 --out flow >/dev/null 2>&1
for also in "" "--max-ratio inf"; do
    # shellcheck disable=SC2086
    [ "$("$diffuse" sample --checkpoint flow --show-grid --steps 3 --json $also | json "[0]['ratio']")" = inf ] || fail "--max-ratio inf is not at T"
done
# latents without classes are of none, and say so
"$diffuse" encode --checkpoint runs/tiny --input 'digits:test[0:1]' --class none --steps 2 --out n.safetensors --quiet >/dev/null
"$diffuse" sample --checkpoint runs/tiny --latents n.safetensors --out s.png --quiet >/dev/null 2>err.txt
"$diffuse" info s.png | grep -q '"class":"none"' || fail "a picture from latents of no class is recorded as of one: $(cat err.txt)"

# numbers are decimal; configs and latents may come through pipes
[ "$("$diffuse" sample --checkpoint runs/tiny --steps 010 --num 02 --out t.png --json --quiet | json "['steps']")" = 10 ] || fail "010 is not ten"
"$diffuse" train --config <(cat tiny.json) --dry-run >/dev/null 2>err.txt || fail "a config through a pipe: $(cat err.txt)"
"$diffuse" encode --checkpoint runs/tiny --input "digits:test[0:1]" --steps 2 --out l.safetensors >/dev/null 2>&1
"$diffuse" sample --checkpoint runs/tiny --latents <(cat l.safetensors) --out t.png >/dev/null 2>err.txt || fail "latents through a pipe: $(cat err.txt)"
"$diffuse" sample --checkpoint runs/tiny --steps 2 --num 1 --out /dev/stdout 2>err.txt | cat >out.txt || true
grep -q "is standard output, where the result is printed" err.txt || fail "an image amid the result: $(cat err.txt)"
mkdir gone
(cd gone && rmdir ../gone && ! "$diffuse" --version >/dev/null 2>../err.txt) || fail "a current folder that is gone"
grep -q "the current folder was removed" err.txt || fail "a current folder that is gone: $(cat err.txt)"


# devices and pipes are written into
"$diffuse" sample --checkpoint runs/tiny --num 1 --steps 2 --scale 1 --out one.png >/dev/null 2>&1
mkfifo pipe.png
cat pipe.png >piped.png &
"$diffuse" sample --checkpoint runs/tiny --num 1 --steps 2 --scale 1 --out pipe.png >/dev/null 2>&1 || fail "sample into a pipe"
wait $!
python3 - piped.png one.png <<'END' || fail "another image came through a pipe"
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
