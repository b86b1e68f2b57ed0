#pragma once

#include <atomic>
#include <functional>

#include "diffuse/base/torch.hpp"
#include "diffuse/solve/integrate.hpp"

namespace diffuse {

/// The denoiser of a walk, whose networks are `counted` in `evaluations`.
using DenoiserFactory = std::function<Denoiser(std::atomic<int64_t>& evaluations)>;

/// A walk of many images along a grid: what sampling, encoding and decoding have in common.
struct Walk {
    SolverFactory solver;
    DenoiserFactory denoiser;
    Grid grid;
    uint64_t seed = 0;                   ///< of the noise of stochastic solvers
    torch::Device device = torch::kCPU;  ///< where the denoiser runs
    int64_t threads = 1;                 ///< on the CPU
    int64_t most_in_flight = 0;          ///< images worked on at once; 0: enough to keep the machine busy
    std::function<void(int64_t done, int64_t total)> progress = [](int64_t, int64_t) {};  ///< in steps of groups
    torch::Tensor companions;  ///< of a reversible solver, to start from; not defined: copies of x
    /// Called at each level but the last with the states of the first images (as many as a group has, fewer if there
    /// are fewer) and what the denoiser makes of them, which takes evaluations of its own that `nfe` does not count.
    std::function<void(const torch::Tensor& x, const torch::Tensor& x0)> record;
};

struct WalkResult {
    torch::Tensor images;      ///< float32 [N, C, H, W] on the CPU
    torch::Tensor companions;  ///< likewise, of a reversible solver
    int64_t nfe = 0;           ///< network evaluations for each image, all that are counted
};

/// Walks x (float32 [N, C, H, W], on the CPU) along the grid. Image i of the result depends on x[i], i and the seed
/// alone, bit for bit: images go in groups of one fixed size (the last one padded), each from first step to last on
/// one thread, so that no kernel ever sees another shape or thread count. A group has 8 images of MNIST's size, and
/// more of fewer numbers. On a GPU `most_in_flight` is that size, and another one may change the last digits. The state
/// is kept in double. Throws Error (exit code 1) when an image is no longer finite.
WalkResult walk_images(const Walk& walk, const torch::Tensor& x);

/// Standard normal noise for images first .. first + count - 1; draw 0 is what sampling starts from, others are
/// `step_draw`s. Returns float32 [count, C, H, W].
torch::Tensor sampling_noise(uint64_t seed, int64_t first, int64_t count, torch::IntArrayRef image_shape, int64_t draw);

/// The draw of noise k (0 .. 4095) of step `step` (0 .. 2^20 - 2), different for each.
int64_t step_draw(int64_t step, int64_t k);

}  // namespace diffuse
