#pragma once

#include <functional>

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

/// The same for x on any device, by a denoiser whose tensors are on the CPU.
Denoiser on_cpu(Denoiser denoiser);

/// log p of noisy data at a level. x: [N, D] -> [N]
torch::Tensor mixture_log_density(const Mixture& mixture, const torch::Tensor& x, const NoiseLevel& level = {});

/// The exact denoiser of a multivariate normal distribution of the mean and covariance of data [N, ...], of which N may
/// be fewer than their numbers: the best linear one for any data with these (Wiener).
Denoiser fitted_gaussian_denoiser(const torch::Tensor& data);

/// The exact denoiser of a finite data set [N, ...], each example as likely: E[x0 | x] is the mean of them all,
/// weighted by exp(-|x - alpha x_i|^2 / (2 sigma^2)). What it draws is the data set, by heart.
Denoiser empirical_denoiser(const torch::Tensor& data);

/// The local equivariant denoiser of images [N, C, H, W] (Kamb & Ganguli 2024, arXiv:2412.20292, section 3.2, with
/// its boundary-broken patches), which predicts much of what a trained convolutional network draws: for each pixel,
/// the empirical denoiser of the square patch around it, among the patches of all images at places up to `reach`
/// pixels away; patches that the border cuts are compared with those that it cuts likewise. `side` of a level: that of
/// the patches, odd; smaller with less noise.
Denoiser local_denoiser(const torch::Tensor& images, int64_t reach,
                        const std::function<int64_t(const NoiseLevel& level)>& side);

/// The exact denoiser of data whose numbers are all independent and from N(mean, std^2); x of any shape.
Denoiser gaussian_denoiser(double mean, double std);

}  // namespace diffuse
