#include "diffuse/solver.hpp"

namespace diffuse {
namespace {

/// Heun's method (Karras et al. 2022, arXiv:2206.00364, algorithm 1) on dy/dr = eps, y = x / alpha, r = sigma / alpha:
/// an Euler step, then again with the mean of the slopes at both ends. A step to sigma = 0 stays Euler: there is no
/// slope there to ask for.
class Heun : public Solver {
public:
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        const double dr = to.ratio() - from.ratio();
        const auto y = x / from.alpha;
        const auto slope = denoiser(x, from).eps;
        const auto euler = to.alpha * (y + dr * slope);
        if (to.sigma == 0) return euler;
        return to.alpha * (y + dr / 2 * (slope + denoiser(euler, to).eps));
    }
};

}  // namespace

std::unique_ptr<Solver> make_heun() { return std::make_unique<Heun>(); }

}  // namespace diffuse
