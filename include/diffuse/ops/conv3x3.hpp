#pragma once

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// What a 3x3 convolution reads: channels-last maps [N, C_i, H, W], side by side as if concatenated along C, each
/// either as it is, or normalised in groups, scaled, shifted and passed through SiLU.
struct ConvInput {
    torch::Tensor x, skip;       ///< skip: undefined, or a second map behind x's channels
    int64_t groups = 0;          ///< 0: x as it is. Otherwise silu(scale * group_norm(x) + shift)
    torch::Tensor scale, shift;  ///< [N or 1, C], with groups
    bool upsample = false;       ///< each pixel fills 2x2 first (nearest neighbour; not with groups)
};

/// conv2d(input, weight, bias, padding 1), weight: [C', C, 3, 3] channels-last -> [N, C', H, W] channels-last, plus
/// `residual` of that shape where it is defined. Differentiable in all tensors, once: throws Error when a graph of the
/// gradient is asked for (create_graph). On a CPU in float32 by Winograd's F(4x4, 3x3) (Lavin & Gray 2016,
/// arXiv:1509.09308) on the calling thread: in blocks of a few images that stay in the cache from the normalisation to
/// the residual; backward, what is not an argument is computed again instead of kept. Elsewhere by `conv3x3_reference`,
/// which can be differentiated as often as one likes.
torch::Tensor conv3x3(const ConvInput& input, const torch::Tensor& weight, const torch::Tensor& bias,
                      const torch::Tensor& residual = {});

/// The same from LibTorch's operators, on any device and type.
torch::Tensor conv3x3_reference(const ConvInput& input, const torch::Tensor& weight, const torch::Tensor& bias,
                                const torch::Tensor& residual = {});

/// For each backward pass: the tuned operators compute gradients from raw data, which leaves nothing in autograd's
/// graph, so that a derivative of such a gradient would be wrong without a word. Throws Error where a graph of the
/// gradient is asked for (create_graph).
void refuse_second_derivative();

/// What a normalised convolution reads, as a tensor: silu(scale * group_norm(x and skip) + shift).
torch::Tensor activated(const ConvInput& input);

}  // namespace diffuse
