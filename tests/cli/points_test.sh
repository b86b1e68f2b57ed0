#!/usr/bin/env bash
# Points, posteriors and denoisers in closed form from the command line; the lab:  tests/cli/points_test.sh PATH/TO/diffuse
# shellcheck source=tests/cli/common.sh
source "$(dirname "$0")/common.sh"

make_tiny

# points: the same commands, with tables and images of points
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
"$diffuse" sample --checkpoint runs/posterior --condition y1=0.1,y2=-0.2 --num 10 --out theta.csv >/dev/null 2>err.txt || fail "sample --condition: $(cat err.txt)"
[ "$(head -n 1 theta.csv)" = theta1,theta2 ] || fail "columns of parameters: $(head -n 1 theta.csv)"
"$diffuse" eval --checkpoint runs/posterior --metric sbc --num 40 --steps 4 --plot sbc.svg --json >out.json 2>err.txt || fail "eval --metric sbc: $(cat err.txt)"
[ "$(json "['rows'][1]['p_value']" <out.json)" = None ] && grep -q '"verdict":"none' out.json || fail "a verdict of 40 trials: $(cat out.json)"
[ "$(json "['rows'][1]['column']" <out.json)" = theta2 ] && [ -s sbc.svg ] || fail "eval --metric sbc: $(cat out.json)"
"$diffuse" eval --checkpoint runs/posterior --metric c2st --observations 1 --num 200 --steps 4 --json >out.json 2>err.txt || fail "eval --metric c2st: $(cat err.txt)"
python3 -c "
import random
random.seed(1)
print('size,colour,\"the, third\"')
for _ in range(300): print(f'{random.gauss(5, 2)},{random.random()},{random.gauss(0, 1):.3f}')" >table.csv
"$diffuse" train --config points.json --set dataset.kind=table --set dataset.limit=0 --set dataset.file=table.csv --set 'dataset.condition=["size"]' --set train.steps=30 --out runs/table >/dev/null 2>err.txt || fail "train on a table: $(cat err.txt)"
"$diffuse" sample --checkpoint runs/table --condition size=4 --num 5 --out rows.csv >/dev/null 2>err.txt || fail "sample of a table: $(cat err.txt)"
[ "$(head -n 1 rows.csv)" = 'colour,"the, third"' ] || fail "columns of a table: $(head -n 1 rows.csv)"

# tables as people have them: text, gaps, semicolons, decimal commas, seconds since 1970, whole numbers, bounds, names with commas
python3 -c "
import random
random.seed(1)
print('id;day;time;share;children;height, cm')
for i in range(400):
    share = f'{random.random():.4f}'.replace('.', ',') if i % 50 else ''
    print(f'a{i};2021-01-{i % 28 + 1:02};{1700000000 + random.randint(-60, 60)};{share};{random.randint(0, 3)};{170 + 10 * random.gauss(0, 1):.0f}')
" | gzip >people.csv.gz
people=(--config points.json --set dataset.kind=table --set dataset.limit=0 --set dataset.file=people.csv.gz --set train.steps=30 --set 'dataset.condition=["height, cm"]')
"$diffuse" train "${people[@]}" --out people >/dev/null 2>err.txt && fail "a table with text is taken"
grep -q 'dataset.skip_columns=\["id","day"\]' err.txt || fail "the key that leaves text out is not told: $(cat err.txt)"
"$diffuse" train "${people[@]}" --set 'dataset.skip_columns=["id","day"]' --set dataset.skip_bad=true --set 'dataset.bounds={"share":[0,1]}' --out people >/dev/null 2>err.txt || fail "train on a table as people have it: $(cat err.txt)"
grep -q "8 of 400 rows have gaps and are skipped" err.txt && grep -q "samples of time, children are rounded" err.txt || fail "what is done to a table is not said: $(cat err.txt)"
"$diffuse" sample --checkpoint people --condition '"height, cm"=170' --num 300 --out people.csv --save-tensors people.safetensors >/dev/null 2>err.txt || fail "a condition with a comma in its name: $(cat err.txt)"
python3 - <<'END' || fail "samples of a table as people have it: $(head -n 5 people.csv)"
import csv, json, struct
rows = list(csv.DictReader(open('people.csv')))
assert all(row['time'].isdigit() and int(row['children']) == float(row['children']) for row in rows)
assert len({row['time'] for row in rows}) > 50
assert all(0 <= float(row['share']) <= 1 for row in rows)
data = open('people.safetensors', 'rb').read()
assert json.loads(data[8:8 + struct.unpack('<Q', data[:8])[0]])['points']['dtype'] == 'F64'
END
"$diffuse" sample --checkpoint people --condition '"height, cm"=500' --num 5 --out people.csv >/dev/null 2>err.txt
grep -q '"height, cm"=500 is outside of what the network was trained on, 1.. to ...: 3.* standard deviations' err.txt || fail "a condition far out: $(cat err.txt)"
printf 'time,share,children,"height, cm"\n1700000000,1.5,1,170\n' >row.csv
(expect_error 2 "row.csv: line 2, column 'share': 1.5 is outside of its dataset.bounds, 0 to 1" encode --checkpoint people --input row.csv --out people.safetensors) || fail "a row outside the bounds is encoded"
printf 'time,share,children,"height, cm"\n1800000000,0.5,1,170\n' >row.csv
"$diffuse" encode --checkpoint people --input row.csv --out people.safetensors >/dev/null 2>err.txt || fail "a row far out: $(cat err.txt)"
grep -q "row.csv: column 'time' has 1.8e+09, far from the numbers of the training, 1.7e+09 to 1.7e+09" err.txt || fail "nothing said of a row far out: $(cat err.txt)"
mv people.csv.gz moved.csv.gz
"$diffuse" encode --checkpoint people --input 'table:test[0:2]' --out people.safetensors >/dev/null 2>err.txt && fail "a table that is gone is read"
grep -q "people.csv.gz; say where it is by --data" err.txt || fail "a table that was moved: $(cat err.txt)"
"$diffuse" encode --checkpoint people --data moved.csv.gz --input 'table:test[0:2]' moved.csv.gz --out people.safetensors >/dev/null 2>err.txt || fail "encode a table that was moved: $(cat err.txt)"
rm -r people people.csv people.safetensors moved.csv.gz

# noise that does not hide the data
"$diffuse" sample --analytic mixture --config points.json --set dataset.kind=mixture --set 'dataset.means=[[-100],[100]]' --num 5 --out far.csv >/dev/null 2>err.txt
grep -q "the data reach to 10.*does not hide them" err.txt || fail "data beyond the noise: $(cat err.txt)"
rm far.csv

printf 'a,b\n1,2\n3,x\n' >letter.csv
printf 'a,b\n1,2\n' >row.csv

# denoisers in closed form, which need no training
"$diffuse" sample --analytic mixture --config points.json --solver heun --steps 10 --num 20 --out exact.csv >/dev/null 2>err.txt || fail "sample --analytic mixture: $(cat err.txt)"
"$diffuse" sample --analytic gaussian --checkpoint runs/points --num 20 --out normal.csv >/dev/null 2>err.txt || fail "sample --analytic gaussian: $(cat err.txt)"
for name in gaussian empirical local; do
    "$diffuse" sample --analytic $name --config tiny.json --set dataset.limit=20 --steps 4 --num 2 --out $name.png >out.txt 2>err.txt || fail "sample --analytic $name: $(cat err.txt)"
done
"$diffuse" info local.png | grep -q "the denoiser local in closed form" || fail "an image that does not tell what drew it: $("$diffuse" info local.png)"
rm -f ./*.svg fisher.svg exact.csv normal.csv empirical.png gaussian.png local.png density.png theta.csv rows.csv decoded.csv all.csv some.csv some.safetensors

# the lab: a list, one experiment, its files, and what is missing without gnuplot
[ "$("$diffuse" lab | wc -l)" -eq "$(($("$diffuse" lab --json | json ".__len__()") + 1))" ] || fail "lab: $("$diffuse" lab)"
"$diffuse" sample --checkpoint runs/tiny --num 1 --steps 2 --scale 1 --out grey.png >/dev/null 2>&1
"$diffuse" lab fourier --input grey.png --seed 3 --out lab --json >out.json || fail "lab fourier: $(cat out.json)"
[ "$(json "[0]['name']" <out.json)" = fourier ] && [ "$(json "[0]['checks'][0]['holds']" <out.json)" = True ] || fail "lab --json"
json "[0]['files']" <out.json | tr -d "[]',"  | xargs ls >/dev/null || fail "lab: a file that it names is not there"
(cd lab && rm fourier-spectra.svg && gnuplot fourier-spectra.gnuplot && [ -s fourier-spectra.svg ]) || fail "the script does not draw the figure again"
PATH=/nowhere "$diffuse" lab heat --out bare >out.txt 2>err.txt || fail "lab without gnuplot: $(cat err.txt)"
grep -q "no figures, for want of gnuplot; install it" err.txt && [ -s bare/heat-modes.csv ] && [ ! -e bare/heat-modes.svg ] || fail "lab without gnuplot: $(cat err.txt)"
# a gnuplot that fails takes nothing along
mkdir broken && printf '#!/bin/sh\necho "gnuplot: no libwx.so" >&2; exit 127\n' >broken/gnuplot && chmod +x broken/gnuplot
fails_to_draw() { # ARGUMENT...
    local status=0
    PATH=$folder/broken:$PATH "$diffuse" "$@" >out.txt 2>err.txt || status=$?
    [ $status = 1 ] && grep -q "gnuplot: gnuplot could not draw it: gnuplot: no libwx.so" err.txt || fail "a gnuplot that fails: $(cat err.txt)"
}
fails_to_draw lab heat --out broken
grep -q "^holds " out.txt && [ "$(wc -l <err.txt)" = 1 ] && [ -s broken/heat-modes.gnuplot ] && grep -q "heat-modes.csv" out.txt && ! grep -q "svg" out.txt || fail "lab with a gnuplot that fails: $(cat out.txt err.txt)"
fails_to_draw sample --checkpoint runs/points --num 20 --steps 2 --out moons.svg --save-tensors moons.safetensors
[ "$(tensors moons.safetensors points)" = 20,2 ] && grep -q moons.safetensors out.txt && [ -s moons.svg.gnuplot ] || fail "sample with a gnuplot that fails: $(cat out.txt)"
rm -r lab bare broken moons.*

count=0 failures=0
