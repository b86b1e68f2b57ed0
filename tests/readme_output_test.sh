#!/usr/bin/env bash
# scripts/readme-output, in a copy of the project's shape whose program is a stand-in that prints as the real one does.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir scripts docs configs data
cp "$project/scripts/readme-output" scripts
cat >fake <<'END_OF_FAKE'
#!/usr/bin/env bash
words=$* out=runs/tiny
case "$words" in *--out*) out=${words##*--out } ;; esac
case "$*" in
train*)
    for step in 1 2 3 4; do echo "training: step $step/4  loss 0.5" >&2; done
    echo "trained 4 steps" >&2
    mkdir -p "$out"
    touch "$out/checkpoint.safetensors"
    echo "$PWD/$out"
    ;;
long*) for line in $(seq 20); do echo "line $line"; done ;;
wide*) printf 'word %.0s' $(seq 40) ;;
rows*) echo '{"row":1}' >&2; echo "euler, 7 steps: image steps 3/9  0:02 left" >&2; echo "a table" ;;
bad*) echo "error: bad" >&2; exit 2 ;;
esac
END_OF_FAKE
chmod +x fake
page() { # what each command shows, a line each
    printf '# Page\n\n```\n$ diffuse train --config configs/tiny.json\n%s\n$ diffuse long\n%s\n```\n\n' "$1" "$2"
    printf 'Words.\n\n```\n$ diffuse wide\n%s\n$ diffuse rows --checkpoint runs/other\n%s\n$ diffuse long silent\n```\n' "$3" "$4"
}
page old old old old >README.md
page old old old old >docs/using.md
words=$(printf 'word %.0s' $(seq 26))
page $'training: step 1/4  loss 0.5\ntraining: step 2/4  loss 0.5\n...\ntrained 4 steps\n/home/you/diffuse/runs/tiny' \
    "$(printf 'line %d\n' 1 2 3 4 5 6 7 8 9 10)"$'\n...\nline 20' "$words..." "a table" >expected.md
page old "$(printf 'line %d\n' 1 2 3 4 5 6 7 8 9 10)"$'\n...\nline 20' "$words..." "a table" >trained_before.md
scripts/readme-output fake 2>log || { cat log >&2; exit 1; }
diff expected.md README.md && diff trained_before.md docs/using.md || { echo "FAILED: the pages are not as expected" >&2; exit 1; }
[ -e runs/other/checkpoint.safetensors ] || { echo "FAILED: a run that a command needs was not trained" >&2; exit 1; }

# a command that fails changes no page
printf '```\n$ diffuse long\nold\n```\n' >README.md
printf '```\n$ diffuse bad\nold\n```\n' >docs/using.md
cp README.md before.md
! scripts/readme-output fake 2>log || { echo "FAILED: a command that fails is no failure" >&2; exit 1; }
cmp README.md before.md
grep -q 'error: bad' log
echo "the pages get what the commands print"
