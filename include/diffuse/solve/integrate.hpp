#pragma once

#include <concepts>
#include <functional>
#include <utility>

#include "diffuse/diffusion/grid.hpp"
#include "diffuse/solve/solver.hpp"

namespace diffuse {

/// `Noise` of step `step`, 0 for the grid's first.
using StepNoise = std::function<torch::Tensor(int64_t step, int64_t k)>;

/// Called after each step with the number of steps done and x there. Progress bars, trajectories and guards are this.
using Observer = std::function<void(int64_t steps_done, const torch::Tensor& x)>;

/// The denoiser of each step, from one level to another: one for all, or one chosen for whole steps, as guidance in an
/// interval is. Solvers see the step's alone.
class StepDenoiser {
public:
    using OfStep = std::function<Denoiser(const NoiseLevel& from, const NoiseLevel& to)>;
    explicit StepDenoiser(OfStep of_step) : of_step_(std::move(of_step)) {}
    template <class D>
    requires std::convertible_to<D, Denoiser> StepDenoiser(D denoiser)  // NOLINT: a denoiser is one
        : of_step_([all = Denoiser(std::move(denoiser))](const NoiseLevel&, const NoiseLevel&) { return all; }) {}
    Denoiser operator()(const NoiseLevel& from, const NoiseLevel& to) const { return of_step_(from, to); }

private:
    OfStep of_step_;
};

/// Walks x along the grid, from its first level to its last. The only loop over levels there is. A step from pure noise
/// (alpha = 0), or to it, is DDIM's whatever the solver.
torch::Tensor integrate(Solver& solver, const StepDenoiser& denoiser, torch::Tensor x, const Grid& grid,
                        const StepNoise& noise, const Observer& observer);

}  // namespace diffuse
