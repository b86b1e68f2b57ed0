#pragma once

#include <string>
#include <utility>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Weights by name.
using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

}  // namespace diffuse
