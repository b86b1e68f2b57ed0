#include "diffuse/solver.hpp"

namespace diffuse {
namespace {

/// Heun's method (Karras et al. 2022, arXiv:2206.00364, algorithm 1): an Euler step, then again with the mean of the
/// slopes at both ends. The probability-flow ODE has two forms: dy/dr = eps with y = x / alpha, r = sigma / alpha, and
/// dz/ds = x0 with z = x / sigma, s = alpha / sigma = 1 / r. An Euler step is ddim's in both; a mean of slopes is only
/// good where the step is short, so each step takes the form whose variable is the smaller: near pure noise r runs to
/// 20,000 on the cosine schedule, but s only to 0.03. A step to sigma = 0 stays Euler: there is no slope to ask for.
class Heun : public Solver {
public:
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        const auto first = denoiser(x, from);
        const auto euler = to.alpha * first.x0 + to.sigma * first.eps;
        if (to.sigma == 0) return euler;
        const auto second = denoiser(euler, to);
        if (from.sigma * to.sigma > from.alpha * to.alpha) {
            const double ds = 1 / to.ratio() - 1 / from.ratio();
            return to.sigma * (x / from.sigma + ds / 2 * (first.x0 + second.x0));
        }
        const double dr = to.ratio() - from.ratio();
        return to.alpha * (x / from.alpha + dr / 2 * (first.eps + second.eps));
    }
};

}  // namespace

std::unique_ptr<Solver> make_heun() { return std::make_unique<Heun>(); }

}  // namespace diffuse
