#pragma once

#include <functional>

#include "diffuse/diffusion/grid.hpp"
#include "diffuse/solve/solver.hpp"

namespace diffuse {

/// `Noise` of step `step`, 0 for the grid's first.
using StepNoise = std::function<torch::Tensor(int64_t step, int64_t k)>;

/// Called after each step with the number of steps done and x there. Progress bars, trajectories and guards are this.
using Observer = std::function<void(int64_t steps_done, const torch::Tensor& x)>;

/// Walks x along the grid, from its first level to its last. The only loop over levels there is.
torch::Tensor integrate(Solver& solver, const Denoiser& denoiser, torch::Tensor x, const Grid& grid,
                        const StepNoise& noise, const Observer& observer);

}  // namespace diffuse
