#!/usr/bin/env bash
# What the program says of itself: help, manual page and completions, whether they are whole, agree with one another and
# with what the program does:  tests/help_test.sh PATH/TO/diffuse [long]
# long: the defaults of sample are tried with every solver that has some of its own, which takes a minute.
set -euo pipefail
diffuse=$(realpath "$1")
project=$(realpath "$(dirname "$0")/..")
solvers="unipc ddim dopri5"
[ "${2:-}" != long ] || solvers="unipc ddim ddpm dopri5 euler-maruyama pc edm-sde"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

fail() { echo "FAILED: $*" >&2; exit 1; }
"$diffuse" help >all.txt
commands=$(sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' all.txt)
[ "$(wc -w <<<"$commands")" -ge 7 ] || fail "the help lists no commands: $(cat all.txt)"

"$diffuse" --help | cmp - all.txt || fail "diffuse help is not diffuse --help"
for command in $commands; do
    "$diffuse" help "$command" >"$command.txt"
    "$diffuse" "$command" --help | cmp - "$command.txt" || fail "diffuse help $command is not diffuse $command --help"
done
for file in all $commands; do
    [ "$(wc -L <"$file.txt")" -le 80 ] || fail "the help of $file has lines of more than 80 columns"
    [ "$(sed -n '/^Examples:/,$p' "$file.txt" | grep -c '^  diffuse ')" = 2 ] || fail "the help of $file has not two examples at its end"
    ! grep -q '^Options:' "$file.txt" || fail "the help of $file has options without a group"
done

# what calculates nothing does not wait for LibTorch's start (sanitizers start later than such a program could answer)
libtorch_starts() { LD_DEBUG=files "$diffuse" "$@" 2>&1 >/dev/null | grep 'calling init: .*libtorch_cpu' >/dev/null; }
if ! grep -q __asan_init "$diffuse"; then
    libtorch_starts info || fail "LD_DEBUG does not tell that LibTorch starts"
    for line in --version help "sample --help" "completion bash" "sample --stpes 3"; do
        # shellcheck disable=SC2086
        ! libtorch_starts $line || fail "diffuse $line starts LibTorch"
    done
fi

# the manual page and the completions have every command and option, and every name that an option takes
"$diffuse" help --man >diffuse.1
for shell in bash zsh fish; do
    "$diffuse" completion $shell >completion.$shell
    ! command -v $shell >/dev/null || $shell -n completion.$shell || fail "$shell cannot read its completions"
done
if command -v mandoc >/dev/null; then mandoc -T lint -W error diffuse.1 || fail "mandoc finds faults in the manual page"; fi
# LINE: what a shell offers at its end, a line each
completed_by_bash() { bash -c 'source completion.bash; compopt() { :; }; COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=(); _diffuse; printf "%s\n" "${COMPREPLY[@]}"' - "$1"; }
completed_by_fish() { fish --no-config -c 'source completion.fish; complete -C $argv[1]' "$1"; }
for command in $commands; do
    grep -q "^.SH \"DIFFUSE $command\"" diffuse.1 || fail "the manual page has no section on $command"
    options=$(grep -oE '^  (-h, )?--[a-z0-9-]+(, --[a-z0-9-]+)?' "$command.txt" | grep -oE -- '--[a-z0-9-]+')
    [ -n "$options" ] || fail "no options in the help of $command"
    for option in $options; do
        grep -qF -- "${option//-/\\-}" diffuse.1 || fail "the manual page lacks $command $option"
        grep -qx -- "$option" <<<"$(completed_by_bash "diffuse $command --")" || fail "bash does not complete $command $option"
        ! command -v fish >/dev/null || grep -qP -- "^$option(\t|$)" <<<"$(completed_by_fish "diffuse $command --")" || fail "fish does not complete $command $option"
        grep -qF -- "$option" completion.zsh || fail "zsh does not complete $command $option"
    done
done

# installed beside the program, for everybody, whatever the umask; it needs nothing of the project's folder
(umask 077 && cmake --install "$(dirname "$diffuse")" --prefix "$folder/the prefix" >installing.txt) || fail "cmake --install"
mv "the prefix" prefix  # it may be moved, too
cmp prefix/share/man/man1/diffuse.1 diffuse.1
cmp prefix/share/bash-completion/completions/diffuse completion.bash
cmp prefix/share/zsh/site-functions/_diffuse completion.zsh
cmp prefix/share/fish/vendor_completions.d/diffuse.fish completion.fish
[ -z "$(find prefix -type f ! -perm -o=r)" ] || fail "not everybody can read: $(find prefix -type f ! -perm -o=r)"
for file in bin/diffuse share/man/man1/diffuse.1 share/zsh/site-functions/_diffuse share/diffuse/configs/demo.json; do
    grep -qx "$folder/the prefix/$file" "$(dirname "$diffuse")/install_manifest.txt" || fail "the manifest lacks $file"
done
prefix/bin/diffuse --version | grep -q '^diffuse ' || fail "the installed program does not start"
if [ -d prefix/lib/diffuse ]; then
    ! ldd prefix/bin/diffuse | grep -F "$project/" || fail "the installed program needs the project's folder"
else
    grep -q "needs LibTorch where it is" installing.txt || ! ldd prefix/bin/diffuse | grep -F "$project/" || fail "nothing said of LibTorch: $(cat installing.txt)"
fi
# the presets and scripts that its messages name are there
prefix/bin/diffuse train --config configs/demo.json --set dataset.kind=digits --dry-run >/dev/null 2>err.txt || fail "an installed preset: $(cat err.txt)"
! prefix/bin/diffuse train --config configs/demo.json --set dataset.dir=nowhere --dry-run >/dev/null 2>err.txt
script=$(grep -o '/[^ ]*get-mnist' err.txt) && [ -x "$script" ] || fail "no script where the message says: $(cat err.txt)"
# a list of folders as shells write it
cmake -DLIBTORCH_QUERY=ON -DDIFFUSE_LIBTORCH=cpu -P "$project/cmake/FindLibTorch.cmake" >found.txt 2>&1 && {
    torch=$(sed -n 's/^-- //p' found.txt)
    CMAKE_PREFIX_PATH="/nowhere:$torch" cmake -DLIBTORCH_QUERY=ON -P "$project/cmake/FindLibTorch.cmake" 2>&1 | grep -qF -- "-- $torch" || fail "a list in CMAKE_PREFIX_PATH"
    mkdir -p other/share/cmake/Torch && touch other/share/cmake/Torch/TorchConfig.cmake
    CMAKE_PREFIX_PATH="/nowhere:$folder/other" cmake -DLIBTORCH_QUERY=ON -P "$project/cmake/FindLibTorch.cmake" 2>&1 | grep -qF "$folder/other" || fail "a list in CMAKE_PREFIX_PATH is not split"
}

# what bash makes of a line; of `diffuse sample --solver=u` it replaces what is behind the = alone
completes() { # LINE WORD...: at its end
    local line=$1 found
    shift
    found=$(completed_by_bash "$line" | paste -sd ' ')
    [ "$found" = "$*" ] || fail "'$line' is completed to '$found', expected '$*'"
}
# shellcheck disable=SC2086  # words
completes "diffuse " $commands -h --help --version
completes "diffuse sa" sample
completes "diffuse sample --sol" --solver
completes "diffuse sample --solver dpmpp" dpmpp-2m dpmpp-3m
completes "diffuse sample --solver=u" unipc
completes "diffuse eval --solver ddi" ddim
completes "diffuse encode --weights " ema raw
completes "diffuse train --set train.dec" train.decay=cosine train.decay=linear train.decay=none
completes "diffuse train --set train.decay=l" linear
completes "diffuse train --set train.batch" train.batch_size=
completes "diffuse train --set seed" seed=
completes "diffuse help enc" encode
completes "diffuse completion z" zsh
completes "diffuse info completion.z" completion.zsh
completes "diffuse sample --num " ""
# a name with blanks is one candidate
mkdir -p "My run" "My other run"
for typed in 'diffuse info My' 'diffuse info My\ ' 'diffuse sample --checkpoint=My'; do
    [ "$(completed_by_bash "$typed" | sort)" = $'My other run\nMy run' ] || fail "bash completes '$typed' to $(completed_by_bash "$typed")"
done

# every documented default is in effect: with all of them given, the result is the same as with none
cat >tiny.json <<'END'
{"dataset": {"kind": "digits", "limit": 100}, "model": {"base_channels": 8},
 "train": {"steps": 6, "batch_size": 8, "sample_every": 0, "warmup_steps": 2}}
END
defaults() { # COMMAND EXCEPT: the options of a help that have a default in one word, with it
    python3 - "$1.txt" "$2" <<'END'
import re, sys
text = open(sys.argv[1]).read()
for name, words in re.findall(r"^  (--[a-z0-9-]+) \S+((?:.*\n)(?: {26}.*\n)*)", text, re.M):
    found = re.search(r"default (\S+)\)", " ".join(words.split()))
    if found and name not in sys.argv[2].split(): print(name, found[1])
END
}
"$diffuse" train --config tiny.json --threads 1 --out run --quiet >/dev/null
for solver in $solvers; do
    case $solver in
    ddim) also="--eta 0 --steps 20" ;;
    ddpm) also="--clip-x0 --steps 1000" ;;
    dopri5) also="--no-clip-x0 --tolerance 0.0001 --steps 1" ;;
    euler-maruyama) also="--clip-x0 --eta 1 --steps 200" ;;
    pc) also="--clip-x0 --snr 0.16 --steps 100" ;;
    edm-sde) also="--clip-x0 --churn 40 --steps 20" ;;
    *) also="--steps 20 --no-clip-x0" ;;
    esac
    "$diffuse" sample --checkpoint run --solver $solver --num 2 --quiet --out a.png --save-tensors a.safetensors >/dev/null
    # shellcheck disable=SC2046,SC2086  # options and their values
    "$diffuse" sample --checkpoint run --solver $solver --num 2 --quiet --out b.png --save-tensors b.safetensors \
        $(defaults sample "--solver --num --out --eta --snr --churn --tolerance --shift --max-ratio") $also >/dev/null
    python3 - <<'END' || fail "a documented default of sample is not in effect ($solver)"
import struct
def data(path):
    everything = open(path, 'rb').read()
    return everything[8 + struct.unpack('<Q', everything[:8])[0]:]
assert data('a.safetensors') == data('b.safetensors')
END
done
num() { "$diffuse" sample --checkpoint run --steps 1 --out a.png --json --quiet "$@" | python3 -c 'import json, sys; print(json.load(sys.stdin)["num"])'; }
tr -s ' \n' ' ' <sample.txt | grep 'default 64, or a little more to fill the rows of classes' >/dev/null || fail "no default of --num in the help"
[ "$(num --class none)" = 64 ] && [ "$(num)" = 70 ] || fail "--num is not 64 by default, nor 70 with ten classes"
for metric in nll roundtrip; do
    case $metric in nll) also="--num 2 --ode-steps 50 --probes 1" ;; *) also="--num 2 --solver unipc --spacing uniform --steps 20" ;; esac
    "$diffuse" eval --checkpoint run --metric $metric --num 2 --json --quiet >a.json
    # shellcheck disable=SC2086
    "$diffuse" eval --checkpoint run --metric $metric --json --quiet --weights ema $also >b.json
    cmp a.json b.json || fail "a documented default of eval --metric $metric is not in effect"
done
# and of the config: a run whose config gives none of the keys is one whose config gives all of them
keys=$(python3 - train.txt <<'END'
import re, sys
skipped = "dataset.name dataset.transpose dataset.channels dataset.size dataset.background dataset.test_share dataset.skip_bad dataset.labels dataset.means dataset.stds dataset.weights dataset.file dataset.condition dataset.simulator model.width model.blocks seed dataset.dir dataset.kind dataset.limit train.steps train.batch_size train.sample_every model.base_channels train.warmup_steps"
for key, default in re.findall(r"^  ([a-z][a-z0-9_.]+) = (\S+)$", open(sys.argv[1]).read(), re.M):
    if key not in skipped.split(): print("--set", f"{key}={default}")
END
)
[ "$(wc -l <<<"$keys")" -ge 20 ] || fail "the help of train has no keys: $keys"
# shellcheck disable=SC2086
"$diffuse" train --config tiny.json --threads 1 --out all --quiet $keys >/dev/null
cmp run/checkpoint.safetensors all/checkpoint.safetensors || fail "a documented default of the config is not in effect"
echo "help, manual page and completions are whole, and the defaults are in effect"
