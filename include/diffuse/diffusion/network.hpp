#pragma once

#include <functional>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// What examples are to show: int64 [N], the class of each, 0 .. classes - 1, or `classes` for none. Not defined: none
/// for all.
using Condition = torch::Tensor;

/// A noisy batch and what a network is told of it.
struct NetworkInput {
    torch::Tensor x;     ///< float32 [N, ...]
    torch::Tensor time;  ///< float32 [N], or [1] for all
    Condition condition = {};
};

/// A function to what it was trained to predict, of x's shape. float32.
using Network = std::function<torch::Tensor(const NetworkInput& input)>;

}  // namespace diffuse
