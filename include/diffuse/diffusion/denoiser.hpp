#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>

#include "diffuse/diffusion/network.hpp"
#include "diffuse/diffusion/parameterization.hpp"
#include "diffuse/diffusion/schedule.hpp"

namespace diffuse {

/// A function from a noisy batch [N, ...] and its noise level to a prediction of the same shape and type.
using Denoiser = std::function<Prediction(const torch::Tensor& x, const NoiseLevel& level)>;

/// How many examples networks were asked for. Copies count together; safe to use from several threads.
class Counter {
public:
    void add(int64_t examples) const { *count_ += examples; }
    int64_t count() const { return *count_; }

private:
    std::shared_ptr<std::atomic<int64_t>> count_ = std::make_shared<std::atomic<int64_t>>(0);
};

/// The same network, which counts the examples of each batch it is called with.
Network counted(Network network, const Counter& evaluations);
/// Likewise a denoiser that has no network.
Denoiser counted(Denoiser denoiser, const Counter& evaluations);

/// A network's output at x, float32 [N, ...], these levels, one for each example or one for all, and this condition.
/// The one place where a level becomes network input: it is told by the time at which the schedule has its log-SNR.
/// Levels are `normalised` ones, and x is at those.
torch::Tensor network_output(const Network& network, const Parameterization& parameterization, const Schedule& schedule,
                             const torch::Tensor& x, std::span<const NoiseLevel> levels,
                             const Condition& condition = {});

/// The denoiser of a trained network, at levels of any scale, for examples of this condition alone: [N], on the
/// network's device. The network runs in float32, the rest in x's type; no graph for gradients is recorded unless x
/// requires them. The network was never trained below t = 1: asked there, as in the first step of encoding, it answers
/// with its eps at t = 1, and x0 = (x - sigma eps) / alpha (Ho et al. 2020, eq. 15).
Denoiser network_denoiser(Network network, const Parameterization& parameterization, const Schedule& schedule,
                          const Condition& condition = {});

/// Clamps x0 to [-1, 1] and takes the eps that goes with it, eps = (x - alpha x0) / sigma.
Denoiser clip_x0(Denoiser denoiser);

}  // namespace diffuse
