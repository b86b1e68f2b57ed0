#pragma once

#include <vector>

#include "diffuse/diffusion/denoiser.hpp"

namespace diffuse {

/// How wrong a score is at noise level sigma, of data with sigma x noise on it (alpha = 1): the Fisher divergence
/// E |s - s*|^2 from the exact score s*, and E |s*|^2, both over the noisy data, with the divergence's standard
/// error; and what denoising score matching ends at with s*, 1 - sigma^2 E|s*|^2 / D in units of the DDPM loss, which
/// with s is larger by sigma^2 / D times the divergence.
struct FisherDivergence {
    double sigma = 0, divergence = 0, standard_error = 0, exact_square = 0, floor = 0;
};

/// data: [N, D]; the noise of each level is the same for the same seed.
FisherDivergence fisher_divergence(const Denoiser& learned, const Denoiser& exact, const torch::Tensor& data,
                                   double sigma, uint64_t seed);

}  // namespace diffuse
