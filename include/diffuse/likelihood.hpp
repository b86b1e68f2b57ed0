#pragma once

#include "diffuse/denoiser.hpp"
#include "diffuse/grid.hpp"

namespace diffuse {

/// How well a model predicts pictures, in bits per dimension: -log2 of the probability of a picture of 256 grey values,
/// over its number of pixels.

/// Bytes to real numbers that fill each byte's bin evenly: (byte + u - 1/2) / 127.5 - 1, u uniform over [0, 1), so that
/// a density over these numbers bounds the probability of the bytes (Theis et al. 2016, arXiv:1511.01844, section 3.1).
/// uint8 [N, C, H, W] -> float64; image i's u is a function of (seed, i).
torch::Tensor dequantised(const torch::Tensor& bytes, uint64_t seed);

/// log p(x) at the grid's first level, by the instantaneous change of variables along the probability-flow ODE (Chen et
/// al. 2018, arXiv:1806.07366, theorem 1; Song et al. 2021, arXiv:2011.13456, eq. 39) up to the grid's last level,
/// where p is taken to be standard normal; by Heun's method. The divergence is Hutchinson's estimate v^T J v over
/// `probes` vectors v of signs, or with probes = 0 the exact trace. `grid` goes up and does not touch sigma = 0. x:
/// float64 [N, C, H, W] -> float64 [N], in nats.
torch::Tensor ode_log_density(const Denoiser& denoiser, const Grid& grid, const torch::Tensor& x, int64_t probes,
                              uint64_t seed);

/// Bits per dimension of dequantised bytes (see `dequantised`) with this log density in nats.
torch::Tensor bits_per_dim(const torch::Tensor& log_density, int64_t dimensions);

/// A picture's way to the first level and back, x_1 ~ q(x_1 | x_0), in nats, float64 [N]: what the step to x_1 gives,
/// -log q(x_1 | x_0), and what the way back costs, -log p(x_0 | x_1), the probability of the bytes under a normal
/// distribution around the x0 predicted at t = 1 with the variance of the posterior at t = 2 (Nichol & Dhariwal 2021's
/// code).
struct FirstLevel {
    torch::Tensor x, log_q, log_decoder;
};
FirstLevel first_level(const Denoiser& denoiser, const Schedule& schedule, const torch::Tensor& bytes, uint64_t seed);

/// Bits per dimension of bytes by the ODE from t = 1 on: the bound E[log p(x_0 | x_1) + log p(x_1) - log q(x_1 | x_0)]
/// at one draw of x_1 (Song et al. 2021, arXiv:2101.09258, appendix B), with `ode_log_density`'s p(x_1). `grid` goes
/// from the schedule's t = 1 up. It shares its first level with `variational_bound` at the same seed.
torch::Tensor ode_bound(const Denoiser& denoiser, const Schedule& schedule, const Grid& grid,
                        const torch::Tensor& bytes, int64_t probes, uint64_t seed);

/// The variational bound in bits per dimension, all its terms, each at one draw of its noise (Ho et al. 2020, eq. 5):
/// L_T, the KL divergence of the last level from the prior; L_{t-1} = (SNR(t-1) / SNR(t) - 1) / 2 |eps - eps_hat|^2 for
/// t = T .. 2 (Kingma et al. 2021, arXiv:2107.00630, eq. 14); and L_0, -log p(x_0 | x_1) of `first_level`. float64 [N]
/// each.
struct VariationalBound {
    torch::Tensor prior, diffusion, decoder;
    torch::Tensor total() const { return prior + diffusion + decoder; }
};
VariationalBound variational_bound(const Denoiser& denoiser, const Schedule& schedule, const torch::Tensor& bytes,
                                   uint64_t seed);

}  // namespace diffuse
