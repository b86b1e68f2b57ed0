#!/usr/bin/env bash
# Every kind of process from the command line: training, solvers, the way there and back:  tests/cli/processes_test.sh PATH/TO/diffuse
# shellcheck source=tests/cli/common.sh
source "$(dirname "$0")/common.sh"

# other processes: training with the loss of each level and of held-out images, the way there and back, a likelihood
while read -r kind prediction levels weighting; do
    train --set schedule.kind=$kind --set schedule.steps=100 --set model.prediction=$prediction --set train.levels=$levels --set train.weighting=$weighting \
        --set train.validate_every=15 --set train.sample_every=0 --out process-$kind >/dev/null 2>err.txt || fail "training on $kind: $(cat err.txt)"
    python3 -c "
import json
last = [json.loads(line) for line in open('process-$kind/metrics.jsonl')][-1]
assert len(last['level_loss']) == 10 and last['validation_loss'] > 0, last" || fail "losses of $kind: $(tail -n 1 process-$kind/metrics.jsonl)"
    "$diffuse" encode --checkpoint process-$kind --input 'digits:test[0:2]' --solver reversible --steps 6 --out k.safetensors --json --quiet >k.json
    python3 -c "import json; trip = json.load(open('k.json')); assert trip['roundtrip_mse'] < 1e-9 and trip['latent_std'] < 3, trip" || fail "encoding on $kind: $(cat k.json)"
    "$diffuse" eval --checkpoint process-$kind --metric nll --num 2 --ode-steps 2 --json --quiet >/dev/null 2>err.txt || fail "nll on $kind: $(cat err.txt)"
done <<'END'
ve edm log-normal edm
flow flow logit-normal flow
vp v uniform v
cosine-vp v uniform v
sub-vp eps uniform simple
END
# and the solvers of their SDEs, and their spacings
while read -r kind solver; do
    # shellcheck disable=SC2086  # options
    "$diffuse" sample --checkpoint process-$kind --solver $solver --num 2 --out s.png --quiet >/dev/null 2>err.txt || fail "$solver on $kind: $(cat err.txt)"
done <<'END'
ve langevin --steps 2
ve edm-sde --steps 3
ve heun --spacing edm --steps 3
flow ddim --spacing flow --shift 2 --steps 3
vp pc --steps 3
cosine-vp reverse-diffusion --steps 5
sub-vp euler-maruyama --steps 5
flow dopri5 --tolerance 0.01
ve dopri5 --tolerance 0.1 --spacing edm --steps 2
END
[ "$("$diffuse" sample --checkpoint process-ve --solver langevin --spacing log-snr --show-grid --json | json '.__len__()')" -gt 60 ] || fail "NCSNv2's levels"
# an ODE to a tolerance: evaluations as many as it takes, more for a smaller one, and a way back
loose=$("$diffuse" sample --checkpoint process-vp --solver dopri5 --tolerance 0.01 --num 2 --out s.png --json --quiet | json "['nfe']")
tight=$("$diffuse" sample --checkpoint process-vp --solver dopri5 --tolerance 1e-5 --num 2 --out s.png --json --quiet | json "['nfe']")
[ "$loose" -lt "$tight" ] || fail "dopri5 took $loose and $tight evaluations"
"$diffuse" encode --checkpoint process-vp --input 'digits:test[0:2]' --solver dopri5 --tolerance 1e-5 --out k.safetensors --json --quiet >k.json
python3 -c "import json; trip = json.load(open('k.json')); assert trip['roundtrip_mse'] < 1e-5, trip" || fail "encoding by dopri5: $(cat k.json)"
"$diffuse" eval --checkpoint process-vp --metric nll --num 2 --tolerance 0.01 --json --quiet >nll.json || fail "nll to a tolerance"
python3 -c "import json; rows = json.load(open('nll.json'))['rows']; assert rows[0]['nfe'] > 7 and rows[0]['bits_per_dim'] > 0, rows" || fail "nll to a tolerance: $(cat nll.json)"
