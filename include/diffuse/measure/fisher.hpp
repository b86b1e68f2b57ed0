#pragma once

#include <vector>

#include "diffuse/diffusion/denoiser.hpp"
#include "diffuse/measure/estimate.hpp"

namespace diffuse {

/// How wrong a score is at noise level sigma, of data with sigma x noise on it (alpha = 1): the Fisher divergence
/// E |s - s*|^2 from the exact score s*, and E |s*|^2, both over the noisy data, and the first relative to the second;
/// and what denoising score matching ends at with s*, 1 - sigma^2 E|s*|^2 / D in units of the DDPM loss, which with s
/// is larger by sigma^2 / D times the divergence. Their errors are those of means over the data; of a ratio R of means
/// that of the mean of |s - s*|^2 - R |s*|^2 (the delta method).
struct FisherDivergence {
    double sigma = 0;
    Estimate divergence, exact_square, relative, floor;
};

/// data: [N, D]; the noise of each level is the same for the same seed.
FisherDivergence fisher_divergence(const Denoiser& learned, const Denoiser& exact, const torch::Tensor& data,
                                   double sigma, uint64_t seed);

}  // namespace diffuse
