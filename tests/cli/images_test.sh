#!/usr/bin/env bash
# A folder of images: in colour, not square, a class for each sub-folder:  tests/cli/images_test.sh PATH/TO/diffuse
# shellcheck source=tests/cli/common.sh
source "$(dirname "$0")/common.sh"

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
echo "a cat in the sun" >pets/cat/0.txt
pets="--config tiny.json --set dataset.kind=images --set dataset.dir=pets --set dataset.size=16x12 --set dataset.flip=true --set dataset.limit=0 --set model.attention_resolutions=[4]"
# shellcheck disable=SC2086
"$diffuse" train $pets --out pets-dry --dry-run >out.txt 2>err.txt || fail "--dry-run of images: $(cat err.txt)"
grep -q "PNG files, RGB since some have colours; 60 of them cropped around the middle and averaged to 16x12; a share of 0.1 held out" err.txt || fail "what was done to images is not said: $(cat err.txt)"
grep -q "1 file that is no image is passed over, the first cat/0.txt" err.txt || fail "nothing said of a caption: $(cat err.txt)"
grep -qE "^2 classes, with their examples: cat \([0-9]+\), dog \([0-9]+\)$" err.txt || fail "the classes are not said: $(cat err.txt)"
# shellcheck disable=SC2086
"$diffuse" train $pets --out pets-dry --dry-run --set dataset.size=15x13 >/dev/null 2>err.txt && fail "a size that cannot be halved is taken"
grep -q "or images of 16x12 (dataset.size)" err.txt || fail "the nearest size that can be halved is not told: $(cat err.txt)"
# shellcheck disable=SC2086
"$diffuse" train $pets --threads 1 --set train.steps=6 --out pets-whole >/dev/null 2>err.txt || fail "train on images: $(cat err.txt)"
# shellcheck disable=SC2086
"$diffuse" train $pets --threads 1 --set train.steps=6 --set train.checkpoint_every=3 --set train.keep_checkpoints=5 --out pets-parts >/dev/null 2>&1
"$diffuse" train --threads 1 --resume pets-parts/checkpoints/step-0000003.safetensors --set train.checkpoint_every=1000 --set train.keep_checkpoints=0 >/dev/null 2>err.txt || fail "resume on images: $(cat err.txt)"
[ "$("$diffuse" sample --checkpoint pets-whole --class dog --num 2 --steps 2 --out s.png --save-tensors a.safetensors --quiet | tail -n 1)" = "$folder/a.safetensors" ] || fail "sample --class NAME"
"$diffuse" sample --checkpoint pets-parts --class 1 --num 2 --steps 2 --out s.png --save-tensors b.safetensors --quiet >/dev/null
python3 - a.safetensors b.safetensors <<'END' || fail "a run on images that was resumed is another, or a class has another number than its name"
import struct, sys
def data(path):
    everything = open(path, 'rb').read()
    return everything[8 + struct.unpack('<Q', everything[:8])[0]:]
assert data(sys.argv[1]) == data(sys.argv[2])
END
for class in dog 1; do
    "$diffuse" sample --checkpoint pets-whole --class cat --guidance 2 --negative-class $class --num 2 --steps 2 --out s.png --save-tensors n-$class.safetensors --quiet >/dev/null
done
python3 -c "
data = [open(f'n-{name}.safetensors', 'rb').read()[-2 * 3 * 16 * 12 * 4:] for name in ('dog', '1')]
assert data[0] == data[1]" || fail "a negative class has another number than its name"
"$diffuse" info pets-whole >out.txt
grep -q "^classes     cat, dog$" out.txt && grep -q "^images .* averaged to 16x12; .* mirrored" out.txt && grep -q "images of 3x16x12" out.txt || fail "info of a run on images: $(cat out.txt)"
"$diffuse" encode --checkpoint pets-whole --input 'images:test[0:2]' photo.png mono.png --solver reversible --steps 4 --out p.safetensors --reconstruct p.png --trajectory p.gif --json >out.txt 2>err.txt || fail "encode images: $(cat err.txt)"
python3 -c "import json; assert json.load(open('out.txt'))['roundtrip_mse'] < 1e-9" || fail "round trip of images: $(cat out.txt)"
grep -q "photo.png: 40x60 pixels (height x width), cropped around the middle and averaged to 16x12" err.txt || fail "nothing said of an image of another size: $(cat err.txt)"
grep -q "mono.png: grey, taken as RGB" err.txt || fail "nothing said of a grey image: $(cat err.txt)"
"$diffuse" eval --checkpoint pets-whole --metric nll --num 2 --ode-steps 2 --json --quiet >/dev/null || fail "nll of images"
"$diffuse" eval --checkpoint pets-whole --metric roundtrip --num 2 --steps 2 --json --quiet >/dev/null || fail "roundtrip of images"
"$diffuse" eval --metric features --features a.safetensors --reference p.safetensors --json 2>err.txt >/dev/null && fail "features of two samples are enough"
"$diffuse" sample --checkpoint pets-whole --num 8 --steps 2 --out s.png --save-tensors c.safetensors --quiet >/dev/null
"$diffuse" eval --metric features --features c.safetensors --reference c.safetensors --json --quiet >out.txt || fail "eval --metric features"
python3 -c "import json; row = json.load(open('out.txt'))['rows'][0]; assert abs(row['frechet']) < 1e-6 and row['precision'] == row['recall'] == 1, row" || fail "a file is not like itself: $(cat out.txt)"

# features that NumPy wrote, and means and covariances as pytorch-fid stores them
python3 - <<'END'
import io, json, struct, zipfile
data = open('c.safetensors', 'rb').read()
size = struct.unpack('<Q', data[:8])[0]
begin, end = json.loads(data[8:8 + size])['images']['data_offsets']
pixels = struct.unpack(f'<{(end - begin) // 4}f', data[8 + size + begin:8 + size + end])
rows = [pixels[i * len(pixels) // 8:(i + 1) * len(pixels) // 8][:3] for i in range(8)]
def npy(shape, numbers):
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + '\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(head)) + head.encode() + struct.pack(f'<{len(numbers)}d', *numbers)
open('rows.npy', 'wb').write(npy((8, 3), [x for row in rows for x in row]))
mean = [sum(row[i] for row in rows) / 8 for i in range(3)]
sigma = [sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows) / 7 for i in range(3) for j in range(3)]
for moments, factor in ('moments.npz', 1), ('negative.npz', -1):
    with zipfile.ZipFile(moments, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, array in ('mu', npy((3,), mean)), ('sigma', npy((3, 3), [factor * x for x in sigma])):
            with archive.open(name + '.npy', 'w', force_zip64=True) as file: file.write(array)
END
"$diffuse" eval --metric features --features rows.npy --reference negative.npz --json >/dev/null 2>err.txt && fail "a covariance with negative variances is taken"
grep -q "negative.npz: 'sigma' is no covariance: it has the eigenvalue -" err.txt || fail "sigma that is none: $(cat err.txt)"
"$diffuse" eval --metric features --features rows.npy --reference moments.npz --json --quiet >out.txt || fail "eval --metric features of NumPy's files"
python3 -c "import json; row = json.load(open('out.txt'))['rows'][0]; assert abs(row['frechet']) < 1e-6 and row['samples'] == 8 and 'precision' not in row, row" || fail "features are not like their own moments: $(cat out.txt)"
