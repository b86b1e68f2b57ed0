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
    torch::Tensor directions = {};  ///< of sliced score matching: float32 [N, M, ...], entries -1 or 1
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

/// The objectives of training by name, all in the unit of the DDPM loss at each level, whose weights they take. With
/// the network's score s(x) = -eps_hat / sigma of the density of x = alpha x0 + sigma eps, in D numbers:
/// ddpm: `ddpm_loss`. dsm, denoising score matching (Vincent 2011, eq. 11): (sigma^2 / D) |s + eps / sigma|^2, with its
/// usual weight sigma^2, which is the DDPM loss in other words. ism, implicit (Hyvarinen 2005, theorem 1):
/// (sigma^2 / D) (2 tr grad s + |s|^2), the trace exact, by D derivatives. ssm, sliced (Song et al. 2019,
/// arXiv:1905.07088, eq. 7): (sigma^2 / D) (2 v grad s v + (v s)^2), its mean over the batch's directions v. ssm-vr,
/// with less variance (eq. 8): |s|^2 instead of (v s)^2. At each level the last three are dsm less 1 in the mean,
/// whatever the network: where dsm ends at 1 - sigma^2 E|score|^2 / D, they end at -sigma^2 E|score|^2 / D. They take
/// derivatives of derivatives, which only an MLP has. Throws Error for an unknown name.
Objective make_objective(const std::string& name, const Parameterization& parameterization, const Schedule& schedule,
                         const std::string& weighting = "simple");
std::vector<std::string> objective_names();

/// What an objective needs.
struct ObjectiveNeeds {
    bool second_derivatives = false;
    bool directions = false;
};
ObjectiveNeeds needs_of(const std::string& objective);

/// The weights of the squared error of the network's output at t = 0 .. T (0 at t = 0), which for each parameterization
/// is a multiple of the error of eps.
std::vector<double> output_weights(const Parameterization& parameterization, const Schedule& schedule,
                                   const std::string& weighting);

}  // namespace diffuse
