#include "diffuse/solve/integrate.hpp"

namespace diffuse {

torch::Tensor integrate(Solver& solver, const StepDenoiser& denoiser, torch::Tensor x, const Grid& grid,
                        const StepNoise& noise, const Observer& observer) {
    for (size_t i = 0; i + 1 < grid.size(); ++i) {
        const int64_t step = int64_t(i);
        x = solver.step(denoiser(grid[i], grid[i + 1]), x, grid[i], grid[i + 1],
                        [&](int64_t k) { return noise(step, k); });
        observer(step + 1, x);
    }
    return x;
}

}  // namespace diffuse
