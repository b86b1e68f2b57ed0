#pragma once

#include <atomic>
#include <functional>

#include "diffuse/solve/integrate.hpp"

namespace diffuse {

/// The denoiser of examples of a condition, which counts what its networks are asked.
using DenoiserFactory = std::function<StepDenoiser(const Condition& condition, const Counter& evaluations)>;

/// All that takes many examples along a grid: what sampling, encoding and decoding have in common.
struct Sampler {
    SolverFactory solver;
    DenoiserFactory denoiser;
    Grid grid;
    bool alone = false;                  ///< each example is stepped alone, as adaptive solvers need
    Condition condition = {};            ///< of each example, on the CPU
    uint64_t seed = 0;                   ///< random seed for the noise of stochastic solvers
    torch::Device device = torch::kCPU;  ///< where the denoiser runs
    int64_t threads = 1;                 ///< on the CPU
    bool shared = false;                 ///< by all processes, which all call `run` and get the same
    int64_t max_in_flight = 0;           ///< examples worked on at once; 0: enough to keep the machine busy
    std::function<void(int64_t done, int64_t total)> progress = [](int64_t, int64_t) {};  ///< in steps of groups
    torch::Tensor second_states;  ///< of a reversible solver, to start from; not defined: copies of x
    /// Called at each level but the last with the states of the first examples (as many as a group has, fewer if there
    /// are fewer) and what the denoiser makes of them, which takes evaluations of its own that `nfe` does not count.
    std::function<void(const torch::Tensor& x, const torch::Tensor& x0)> record;
};

struct Samples {
    torch::Tensor x;              ///< float32 [N, ...] on the CPU
    torch::Tensor second_states;  ///< likewise, of a reversible solver
    int64_t nfe = 0;              ///< network evaluations for each example, all that are counted
};

/// Takes x (float32 [N, ...], on the CPU) along the grid. What goes in and comes out is over the level's scale
/// (`scale_of`), so that noise is standard normal on every path. Example i of the result depends on x[i], its
/// condition, i and the seed alone, bit for bit: examples go in groups of one fixed size (the last one padded), each
/// from first step to last on one thread, so that no kernel ever sees another shape or thread count. A group has 8
/// images of MNIST's size, and more of fewer numbers; `alone` one. On a GPU `max_in_flight` is
/// that size, and another one may change the last digits. The state is kept in double. Throws Error (exit code 1) when
/// an example is no longer finite.
Samples run(const Sampler& sampler, const torch::Tensor& x);

/// Standard normal noise for examples first .. first + count - 1; draw 0 is what sampling starts from, others are
/// `step_draw`s. Returns float32 [count, shape].
torch::Tensor sampling_noise(uint64_t seed, int64_t first, int64_t count, torch::IntArrayRef shape, int64_t draw);

/// The draw of noise k (0 .. 4095) of step `step` (0 .. 2^20 - 2), different for each.
int64_t step_draw(int64_t step, int64_t k);

}  // namespace diffuse
