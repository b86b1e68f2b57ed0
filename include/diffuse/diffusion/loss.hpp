#pragma once

#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"
#include "diffuse/diffusion/denoiser.hpp"
#include "diffuse/diffusion/schedule.hpp"

namespace diffuse {

/// alpha, sigma and the loss's weight of every level 0 .. T as float32 vectors on a device, for a batch of different
/// times. The weights of the squared error of eps, with mean 1 over 1 .. T: simple: all 1 (Ho et al. 2020, eq. 14).
/// min-snr: min(SNR, 5) / SNR (Hang et al. 2023, arXiv:2303.09556, section 3.4). vlb: those of the variational bound
/// up to `grid_start`, (SNR(t-1) / SNR(t) - 1) / 2 (Kingma et al. 2021, arXiv:2107.00630, eq. 14); at t = 1, where
/// that has no bound, what it is at t = 2, and beyond the start what it is there. v: those that make it the squared
/// error of v, 1 / alpha^2, as they are: the only ones that teach anything where alpha is next to nothing
/// (zero_terminal_snr). `weight` is that of the squared error of the network's output, which for each parameterization
/// is a multiple of the error of eps. Throws Error for an unknown weighting.
struct LevelTable {
    torch::Tensor alpha, sigma, weight;  ///< [T + 1]; no weight where all are 1
    LevelTable(const Schedule& schedule, torch::Device device, const Parameterization& parameterization,
               const std::string& weighting = "simple");
};
std::vector<std::string> weighting_names();

/// x_t = alpha_t x_0 + sigma_t eps (Ho et al. 2020, eq. 4). x0, eps: [N, C, H, W]; t: int64 [N].
torch::Tensor add_noise(const LevelTable& levels, const torch::Tensor& x0, const torch::Tensor& t,
                        const torch::Tensor& eps);

/// The DDPM loss (Ho et al. 2020, eq. 14): the mean over images and pixels of the squared error of eps at x_t, weighted
/// as `levels` says, whatever the network predicts. A scalar.
torch::Tensor ddpm_loss(const Network& network, const Parameterization& parameterization, const LevelTable& levels,
                        const torch::Tensor& x0, const torch::Tensor& t, const torch::Tensor& eps);

}  // namespace diffuse
