#pragma once

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// conv2d of x and skip, side by side along C, with weight: [C', C, 1, 1] -> [N, C', H, W], differentiable in all
/// tensors, once (as conv3x3); skip may be undefined. Channels-last on a CPU in float32 with channels in multiples of
/// 16: matrix products on the calling thread, without concatenating. Elsewhere by `conv1x1_reference`.
torch::Tensor conv1x1(const torch::Tensor& x, const torch::Tensor& skip, const torch::Tensor& weight,
                      const torch::Tensor& bias);

/// The same from LibTorch's operators, on any device and type.
torch::Tensor conv1x1_reference(const torch::Tensor& x, const torch::Tensor& skip, const torch::Tensor& weight,
                                const torch::Tensor& bias);

}  // namespace diffuse
