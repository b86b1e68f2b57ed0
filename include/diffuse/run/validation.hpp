#pragma once

#include <functional>

#include "diffuse/diffusion/network.hpp"
#include "diffuse/diffusion/objective.hpp"
#include "diffuse/run/config.hpp"

namespace diffuse {

/// The mean loss of a network on held-out examples, always at the same noise levels and with the same noise.
using Validation = std::function<double(const Network& network)>;

/// That of a config on the first 1,024 examples of its data set's test split, as `data` has them, on LibTorch's number
/// of threads. Networks must live on `device`. Throws Error where the split cannot be loaded or has other columns.
Validation make_validation(const Config& config, const DataSpec& data, const Objective& objective,
                           const Schedule& schedule, torch::Device device);

}  // namespace diffuse
