#pragma once

#include <functional>

#include "diffuse/diffusion/condition.hpp"

namespace diffuse {

/// A noisy batch and what is known of it.
struct NetworkInput {
    torch::Tensor x;     ///< float32 [N, ...]
    torch::Tensor time;  ///< float32 [N], or [1] for all
    Condition condition = {};
};

/// A function to what it was trained to predict, of x's shape. float32.
using Network = std::function<torch::Tensor(const NetworkInput& input)>;

}  // namespace diffuse
