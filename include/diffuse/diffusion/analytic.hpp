#pragma once

#include "diffuse/diffusion/denoiser.hpp"

namespace diffuse {

/// Data from round normal distributions, x: [N, D], of which all is known in closed form.
struct Mixture {
    torch::Tensor means;    ///< float64 [K, D]
    torch::Tensor stds;     ///< float64 [K], each above 0
    torch::Tensor weights;  ///< float64 [K], each above 0; their sum is 1
};

/// The exact denoiser of a mixture, at levels of any scale, alpha = 0 too: x_t is a mixture again, with means alpha m
/// and variances v = alpha^2 s^2 + sigma^2; of a component, E[x0 | x] = m + alpha s^2 / v (x - alpha m) and
/// E[eps | x] = sigma / v (x - alpha m), and the components share x by their densities there.
Denoiser mixture_denoiser(const Mixture& mixture);

/// log p of noisy data at a level. x: [N, D] -> [N]
torch::Tensor mixture_log_density(const Mixture& mixture, const torch::Tensor& x, const NoiseLevel& level = {});

/// The exact denoiser of data whose numbers are all independent and from N(mean, std^2); x of any shape.
Denoiser gaussian_denoiser(double mean, double std);

}  // namespace diffuse
