#include <cmath>
#include <numbers>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

/// EDM's stochastic sampler (Karras et al. 2022, arXiv:2206.00364, algorithm 2) in y = x / alpha: from r up to
/// r^ = (1 + gamma) r by fresh noise, gamma = min(S_churn / N, sqrt 2 - 1) where r is in [S_tmin, S_tmax], then Heun's
/// step of dy/dr = eps down to the next level; a step to data stays Euler.
class EdmSde : public Solver {
public:
    EdmSde(const Churn& churn, int64_t steps)
        : churn_(churn), gamma_(std::min(churn.amount / double(steps), std::numbers::sqrt2 - 1)) {}

    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise& noise) override {
        const double r = from.ratio(), target = to.ratio();
        const bool churns = r >= churn_.min && r <= churn_.max && gamma_ > 0;
        const double raised = churns ? r * (1 + gamma_) : r;
        auto y = x / from.alpha;
        if (churns) y = y + std::sqrt(raised * raised - r * r) * churn_.noise * noise(0);
        const auto slope = [&](const torch::Tensor& at, double ratio) {
            const NoiseLevel level = level_of_ratio(ratio);
            return denoiser(level.alpha * at, level).eps;
        };
        const auto first = slope(y, raised);
        const auto euler = y + (target - raised) * first;
        if (to.sigma == 0) return euler;
        return to.alpha * (y + (target - raised) / 2 * (first + slope(euler, target)));
    }

private:
    Churn churn_;
    double gamma_;
};

}  // namespace

std::unique_ptr<Solver> make_edm_sde(const Churn& churn, int64_t steps) {
    return std::make_unique<EdmSde>(churn, steps);
}

SolverKind edm_sde_solver() {
    constexpr double kChurnOfAStep = Churn{}.amount / 256;  // so that every number of steps has table 5's gamma
    return {
        .make =
            [](const SolverOptions& o) {
                return make_edm_sde({.amount = o.churn.value_or(kChurnOfAStep * double(o.steps))}, o.steps);
            },
        .evaluations = 2,
        .default_steps = 64,
        .default_spacing = "edm",
        .stochastic = true,
        .fields =
            [](SolverOptions& o) {
                Field churn = solver_option("churn", {&o.churn, 0, 1e6}, 0, "S_churn, noise added on the whole way");
                churn.by_default = "40 in 256 steps, fewer in fewer";
                return Fields{churn};
            }};
}

}  // namespace diffuse
