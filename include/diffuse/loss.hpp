#pragma once

#include <string>
#include <vector>

#include "diffuse/denoiser.hpp"
#include "diffuse/schedule.hpp"
#include "diffuse/torch.hpp"

namespace diffuse {

/// alpha, sigma and the loss's weight of every level 0 .. T as float32 vectors on a device, for a batch of different
/// times. The weights of the squared error of eps, with mean 1 over 1 .. T: simple: all 1 (Ho et al. 2020, eq. 14).
/// min-snr: min(SNR, 5) / SNR (Hang et al. 2023, arXiv:2303.09556, section 3.4). vlb: those of the variational bound,
/// (SNR(t-1) / SNR(t) - 1) / 2 (Kingma et al. 2021, arXiv:2107.00630, eq. 14), and at t = 1, where that has no bound,
/// what it is at t = 2. Throws Error for an unknown weighting.
struct LevelTable {
    torch::Tensor alpha, sigma, weight;  ///< [T + 1]; no weight where all are 1
    LevelTable(const Schedule& schedule, torch::Device device, const std::string& weighting = "simple");
};
std::vector<std::string> weighting_names();

/// x_t = alpha_t x_0 + sigma_t eps (Ho et al. 2020, eq. 4). x0, eps: [N, C, H, W]; t: int64 [N].
torch::Tensor add_noise(const LevelTable& levels, const torch::Tensor& x0, const torch::Tensor& t,
                        const torch::Tensor& eps);

/// L_simple (Ho et al. 2020, eq. 14): the mean over images and pixels of (eps - eps_theta(x_t, t))^2, where eps_theta
/// is the network's output as `to_eps` reads it, weighted as `levels` says. A scalar.
torch::Tensor eps_loss(const Network& network, ToEps to_eps, const LevelTable& levels, const torch::Tensor& x0,
                       const torch::Tensor& t, const torch::Tensor& eps);

}  // namespace diffuse
