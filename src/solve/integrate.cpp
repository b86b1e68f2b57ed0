#include "diffuse/solve/integrate.hpp"

namespace diffuse {
namespace {

/// Where alpha is 0 and r has no bound, x0 does not depend on x, and DDIM's step is the ODE's own.
torch::Tensor step_at_pure_noise(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from,
                                 const NoiseLevel& to) {
    const auto [x0, eps] = denoiser(x, from);
    return to.alpha * x0 + to.sigma * eps;
}

}  // namespace

torch::Tensor integrate(Solver& solver, const StepDenoiser& denoiser, torch::Tensor x, const Grid& grid,
                        const StepNoise& noise, const Observer& observer) {
    for (size_t i = 0; i + 1 < grid.size(); ++i) {
        const NoiseLevel &from = grid[i], &to = grid[i + 1];
        const Denoiser here = denoiser(from, to);
        const bool is_pure = from.alpha == 0 || to.alpha == 0;
        x = is_pure ? step_at_pure_noise(here, x, from, to)
                    : solver.step(here, x, from, to, [&](int64_t k) { return noise(int64_t(i), k); });
        observer(int64_t(i) + 1, x);
    }
    return x;
}

}  // namespace diffuse
