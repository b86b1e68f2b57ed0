#pragma once

#include <string>

#include "diffuse/run/sampling.hpp"

namespace diffuse {

/// Images encoded to their latents, and decoded again on the same grid.
struct RoundTrip {
    TimedSamples encoded, decoded;
    double latent_mean = 0, latent_std = 0;
    double mse = 0;  ///< of the way there and back, per pixel in [0, 1]
};
RoundTrip round_trip(Sampler decode, const torch::Tensor& images, const TrajectoryFile& trajectory = {});

}  // namespace diffuse
