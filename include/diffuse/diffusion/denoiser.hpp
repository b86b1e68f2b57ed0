#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"
#include "diffuse/diffusion/schedule.hpp"

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

/// What a network's output means: its target in training, and the prediction that an output stands for in sampling.
/// eps: the noise (Ho et al. 2020, arXiv:2006.11239). x0: the picture. v: alpha eps - sigma x0 (Salimans & Ho 2022,
/// arXiv:2202.00512, appendix D); a network that says nothing, v = 0, is then right about data of unit variance.
struct Parameterization {
    /// What to predict of x = alpha x0 + sigma eps; alpha and sigma are [N, 1, 1, 1] or scalars.
    torch::Tensor (*target)(const torch::Tensor& x0, const torch::Tensor& eps, const torch::Tensor& alpha,
                            const torch::Tensor& sigma);
    /// The x0 and eps of an output at x, without dividing by what may be tiny where that can be helped.
    Prediction (*predict)(const torch::Tensor& output, const torch::Tensor& x, const NoiseLevel& level);
    /// The error of eps that an error of the output makes, as its multiple.
    double (*eps_error)(const NoiseLevel& level);
};
Parameterization parameterization(const std::string& prediction);
std::vector<std::string> prediction_names();

/// The same network, which adds the images of each batch it is called with to `evaluations`.
Network counted(Network network, std::atomic<int64_t>& evaluations);

/// The denoiser of a trained network. The network runs in float32, the rest in x's type; no graph for gradients is
/// recorded unless x requires them. A level that has no t of its own is given the schedule's. The network was never
/// trained below t = 1: asked there, as in the first step of encoding, it answers with its eps at t = 1, and x0 = (x -
/// sigma eps) / alpha (Ho et al. 2020, eq. 15).
Denoiser network_denoiser(Network network, const Parameterization& parameterization, const Schedule& schedule);

/// Clamps x0 to [-1, 1] and takes the eps that goes with it, eps = (x - alpha x0) / sigma.
Denoiser clip_x0(Denoiser denoiser);

}  // namespace diffuse
