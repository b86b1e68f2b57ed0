#pragma once

#include <string>

#include "diffuse/run/sampling.hpp"

namespace diffuse {

/// Examples encoded to their latents, and decoded again on the same grid.
struct RoundTrip {
    TimedSamples encoded, decoded;
    double latent_mean = 0, latent_std = 0;
    double mse = 0;  ///< of the way there and back, per pixel in [0, 1], or per number of points
};
RoundTrip round_trip(Sampler decode, const torch::Tensor& x, const TrajectoryFile& trajectory = {});

}  // namespace diffuse
