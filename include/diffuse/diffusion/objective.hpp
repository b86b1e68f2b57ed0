#pragma once

#include <functional>
#include <string>
#include <vector>

#include "diffuse/diffusion/denoiser.hpp"

namespace diffuse {

/// Examples to train on: each its own noise, added at its own level.
struct Batch {
    torch::Tensor x0, eps;  ///< float32 [N, ...]
    std::vector<NoiseLevel> levels;
    Condition condition = {};
};

/// What training makes small: a number for each example, float32 [N], differentiable in the network's weights.
using Objective = std::function<torch::Tensor(const Network& network, const Batch& batch)>;

/// The DDPM loss (Ho et al. 2020, eq. 14): the mean over the numbers of each example of the squared error of eps at
/// x_t, weighted by noise level, whatever the network predicts. The weights have mean 1 over t = 1 .. T. simple: all 1.
/// min-snr: min(SNR, 5) / SNR (Hang et al. 2023, arXiv:2303.09556, section 3.4). vlb: those of the variational bound up
/// to `grid_start`, (SNR(t-1) / SNR(t) - 1) / 2 (Kingma et al. 2021, arXiv:2107.00630, eq. 14); at t = 1, where that
/// has no bound, what it is at t = 2, and beyond the start what it is there. v: those that make it the squared error of
/// v, 1 / alpha^2, as they are: the only ones that teach anything where alpha is next to nothing (zero_terminal_snr).
/// flow: likewise those of the velocity eps - x0, (1 + sigma / alpha)^2. edm: 1 + (sigma / (alpha sigma_data))^2,
/// which makes it the squared error of what prediction edm says (Karras et al. 2022, arXiv:2206.00364, table 1). Levels
/// are trained ones, `normalised`. Throws Error for an unknown weighting.
Objective ddpm_loss(const Parameterization& parameterization, const Schedule& schedule,
                    const std::string& weighting = "simple");
std::vector<std::string> weighting_names();

/// The weights of the squared error of the network's output at t = 0 .. T (0 at t = 0), which for each parameterization
/// is a multiple of the error of eps.
std::vector<double> output_weights(const Parameterization& parameterization, const Schedule& schedule,
                                   const std::string& weighting);

}  // namespace diffuse
