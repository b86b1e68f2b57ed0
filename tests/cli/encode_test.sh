#!/usr/bin/env bash
# Encoding from the command line, decoding again, and what files say of themselves:  tests/cli/encode_test.sh PATH/TO/diffuse
# shellcheck source=tests/cli/common.sh
source "$(dirname "$0")/common.sh"

make_tiny
make_tiny --seed 3 --out runs/seeded
sample() { "$diffuse" sample --checkpoint runs/tiny --steps 4 --seed 7 "$@" --out s.png 2>/dev/null >/dev/null; }

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
import struct, sys, zlib  # crops the grid's border, so that the image has the size of an image
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

# images: small ones twice as large, rows of meaning with their names, and how they were made
size() { "$diffuse" info "$1" --json | json "['width']"; }
sample --num 1 --scale 3
[ "$(size s.png)" = 96 ] || fail "--scale 3 gives $(size s.png) pixels"
sample --num 1
[ "$(size s.png)" = 64 ] || fail "a small image is $(size s.png) pixels wide"
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
[ "$(json "['texts']['seed']" <info.json)" = 5 ] || fail "no seed in an image: $(cat info.json)"
json "['texts']['sampling']" <info.json | grep -q '"solver":"heun","steps":3' || fail "no sampling in an image: $(cat info.json)"
cp 'told of.png' before.png
eval "$(json "['texts']['command']" <info.json | sed "s#^diffuse#\"$diffuse\"#") >/dev/null 2>&1"
cmp before.png 'told of.png' || fail "the command in an image does not make it again"
"$diffuse" info runs/seeded/samples/step-0000030.png | grep -q '^seed  *3$' || fail "a grid of a training does not tell its seed"
"$diffuse" info grey.png | grep -q 'does not say how it was made' || fail "info of a foreign image"
"$diffuse" info l.safetensors | grep -q '^latents  *\[3, 1, 28, 28\]' || fail "info of latents: $("$diffuse" info l.safetensors)"
"$diffuse" info x.safetensors | grep -q '^checkpoint  *.*runs/tiny/checkpoint.safetensors' || fail "info of samples"

# latents know the network that made them
"$diffuse" sample --checkpoint runs/seeded --latents l.safetensors --out x.png >/dev/null 2>err.txt || fail "latents of another network"
grep -q "warning: l.safetensors: made with another network (step 30, ema weights, CRC-32" err.txt || fail "no word of another network: $(cat err.txt)"
"$diffuse" sample --checkpoint runs/tiny --latents h.safetensors --out x.png --quiet >/dev/null 2>err.txt
[ ! -s err.txt ] || fail "a warning without reason: $(cat err.txt)"
