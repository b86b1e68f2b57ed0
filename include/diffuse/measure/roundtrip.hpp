#pragma once

#include <string>

#include "diffuse/measure/estimate.hpp"
#include "diffuse/run/sampling.hpp"

namespace diffuse {

/// Examples encoded to their latents, and decoded again on the same grid.
struct RoundTrip {
    TimedSamples encoded, decoded;
    double latent_mean = 0, latent_std = 0;
    Estimate mse;  ///< of the way there and back, per pixel in [0, 1], or per number of points; a mean over examples
};
RoundTrip round_trip(Sampler decode, const torch::Tensor& x, const TrajectoryFile& trajectory = {});

}  // namespace diffuse
