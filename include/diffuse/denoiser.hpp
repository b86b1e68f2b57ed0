#pragma once

#include <functional>

#include "diffuse/schedule.hpp"
#include "diffuse/torch.hpp"

namespace diffuse {

/// What a denoiser says of x_t: the picture and the noise it is made of, x_t = alpha x0 + sigma eps.
struct Prediction {
    torch::Tensor x0, eps;
};

/// A function from a noisy batch [N, C, H, W] and its times, [N] or [1] for all, to what it was trained to predict, of
/// the batch's shape. float32.
using Network = std::function<torch::Tensor(const torch::Tensor& x, const torch::Tensor& t)>;

/// A function from a noisy batch [N, C, H, W] and its noise level to a prediction of the same shape and type.
using Denoiser = std::function<Prediction(const torch::Tensor& x, const NoiseLevel& level)>;

/// The denoiser of a network that predicts eps: x0 = (x - sigma eps) / alpha (Ho et al. 2020, eq. 15). The network runs
/// in float32, the rest in x's type. It was never trained at t < 1: asked there, as in the first step of encoding, it
/// answers with its eps at t = 1.
Denoiser eps_denoiser(Network network);

/// Clamps x0 to [-1, 1] and takes the eps that goes with it, eps = (x - alpha x0) / sigma.
Denoiser clip_x0(Denoiser denoiser);

}  // namespace diffuse
