#pragma once

#include <functional>
#include <string>
#include <vector>

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

/// What a network's output means. `to_eps` turns it into eps; alpha and sigma are those of x, scalars or [N, 1, 1, 1].
/// eps: the output is eps (Ho et al. 2020). x0: it is x0, so eps = (x - alpha x0) / sigma. v: it is
/// alpha eps - sigma x0, so eps = sigma x + alpha v (Salimans & Ho 2022, arXiv:2202.00512, appendix D); a network that
/// says nothing, v = 0, is then right about data of unit variance.
using ToEps = torch::Tensor (*)(const torch::Tensor& output, const torch::Tensor& x, const torch::Tensor& alpha,
                                const torch::Tensor& sigma);
ToEps to_eps(const std::string& prediction);
std::vector<std::string> prediction_names();

/// The denoiser of a trained network: its eps, and x0 = (x - sigma eps) / alpha (Ho et al. 2020, eq. 15). The network
/// runs in float32, the rest in x's type. A level that has no t of its own is given the schedule's. The network was
/// never trained below t = 1: asked there, as in the first step of encoding, it answers with its eps at t = 1.
Denoiser network_denoiser(Network network, ToEps to_eps, const Schedule& schedule);

/// Clamps x0 to [-1, 1] and takes the eps that goes with it, eps = (x - alpha x0) / sigma.
Denoiser clip_x0(Denoiser denoiser);

}  // namespace diffuse
