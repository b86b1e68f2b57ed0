#pragma once

#include <optional>

#include "diffuse/diffusion/denoiser.hpp"
#include "diffuse/diffusion/grid.hpp"

namespace diffuse {

/// How well a model predicts images, in bits per dimension: -log2 of the probability of an image of 256 grey values,
/// over its number of pixels.

/// Which random numbers a batch gets: image i of it those of image first + i under the seed, whatever the batch.
struct Draws {
    uint64_t seed = 0;
    int64_t first = 0;
};

/// Bytes to real numbers uniform over each byte's bin: (byte + u - 1/2) / 127.5 - 1, u uniform over [0, 1), so that
/// a density over these numbers bounds the probability of the bytes (Theis et al. 2016, arXiv:1511.01844, section 3.1).
/// uint8 [N, C, H, W] -> float64.
torch::Tensor dequantised(const torch::Tensor& bytes, const Draws& draws);

/// log p(x) at the grid's first level, by the instantaneous change of variables along the probability-flow ODE (Chen et
/// al. 2018, arXiv:1806.07366, theorem 1; Song et al. 2021, arXiv:2011.13456, eq. 39) up to the grid's last level,
/// where p is taken to be standard normal; by Heun's method, or with a `tolerance` by Dormand and Prince's in steps of
/// its own (`make_dopri5`), which are the same for all of x. The divergence is Hutchinson's estimate v^T J v over
/// `probes` vectors v of signs, or with probes = 0 the exact trace. `grid` goes up and does not touch sigma = 0. x:
/// float64 [N, C, H, W] -> float64 [N], in nats.
torch::Tensor ode_log_density(const Denoiser& denoiser, const Grid& grid, const torch::Tensor& x, int64_t probes,
                              const Draws& draws, std::optional<double> tolerance = {});

/// Bits per dimension of dequantised bytes (see `dequantised`) with this log density in nats.
torch::Tensor bits_per_dim(const torch::Tensor& log_density, int64_t dimensions);

/// An image's way to the first level and back, x_1 ~ q(x_1 | x_0), in nats, float64 [N]: what the step to x_1 gives,
/// -log q(x_1 | x_0), and what the way back costs, -log p(x_0 | x_1), the probability of the bytes under a normal
/// distribution around the x0 predicted at x_1 with the variance of the posterior at x_2 (Nichol & Dhariwal 2021's
/// code). x_1 and x_2 are the lowest noisy levels of `chain`, a grid that goes down to data.
struct ReconstructionTerm {
    torch::Tensor x, log_q, log_decoder;
};
ReconstructionTerm reconstruction_term(const Denoiser& denoiser, const Grid& chain, const torch::Tensor& bytes,
                                       const Draws& draws);

/// Bits per dimension of bytes by the ODE from x_1 on: the bound E[log p(x_0 | x_1) + log p(x_1) - log q(x_1 | x_0)]
/// at one draw of x_1 (Song et al. 2021, arXiv:2101.09258, appendix B), with `ode_log_density`'s p(x_1). `grid` goes
/// up from the chain's lowest noisy level. It shares its first level with `variational_bound` at the same draws.
torch::Tensor ode_bound(const Denoiser& denoiser, const Grid& chain, const Grid& grid, const torch::Tensor& bytes,
                        int64_t probes, const Draws& draws, std::optional<double> tolerance = {});

/// The variational bound in bits per dimension of the chain that begins with N(0, 1) at its first level and goes down
/// to data, all its terms, each at one draw of its noise (Ho et al. 2020, eq. 5): L_T, the KL divergence of the first
/// level from the prior; L_{t-1} = (SNR(s) / SNR(t) - 1) / 2 |eps - eps_hat|^2 for each step from a level t to the next
/// noisy one s (Kingma et al. 2021, arXiv:2107.00630, eq. 14); and L_0, -log p(x_0 | x_1) of `reconstruction_term`.
/// float64 [N] each.
struct VariationalBound {
    torch::Tensor prior, diffusion, decoder;
    torch::Tensor total() const { return prior + diffusion + decoder; }
};
VariationalBound variational_bound(const Denoiser& denoiser, const Grid& chain, const torch::Tensor& bytes,
                                   const Draws& draws);

}  // namespace diffuse
