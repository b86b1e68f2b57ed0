#pragma once

#include "diffuse/denoiser.hpp"
#include "diffuse/schedule.hpp"
#include "diffuse/torch.hpp"

namespace diffuse {

/// alpha and sigma of every level 0 .. T as float32 vectors on a device, for a batch of different times.
struct LevelTable {
    torch::Tensor alpha, sigma;  ///< [T + 1]
    LevelTable(const Schedule& schedule, torch::Device device);
};

/// x_t = alpha_t x_0 + sigma_t eps (Ho et al. 2020, eq. 4). x0, eps: [N, C, H, W]; t: int64 [N].
torch::Tensor add_noise(const LevelTable& levels, const torch::Tensor& x0, const torch::Tensor& t,
                        const torch::Tensor& eps);

/// L_simple (Ho et al. 2020, eq. 14): the mean over images and pixels of (eps - eps_theta(x_t, t))^2, where eps_theta
/// is the network's output as `to_eps` reads it. A scalar.
torch::Tensor eps_loss(const Network& network, ToEps to_eps, const LevelTable& levels, const torch::Tensor& x0,
                       const torch::Tensor& t, const torch::Tensor& eps);

}  // namespace diffuse
