#pragma once

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// [N, C, H, W] -> contiguous [N, H, W, C]; free for channels-last maps.
inline torch::Tensor nhwc(const torch::Tensor& x) { return x.permute({0, 2, 3, 1}).contiguous(); }

/// A new channels-last map for the images of `like`.
inline torch::Tensor empty_map(const torch::Tensor& like, int64_t channels, int64_t height, int64_t width) {
    return torch::empty({like.size(0), channels, height, width}, like.options(), torch::MemoryFormat::ChannelsLast);
}

/// x, and behind its channels those of skip if there is one.
inline torch::Tensor joined(const torch::Tensor& x, const torch::Tensor& skip) {
    return skip.defined() ? torch::cat({x, skip}, 1) : x;
}

/// Autograd takes no undefined tensors as arguments; those without elements stand for them.
inline torch::Tensor or_empty(const torch::Tensor& x) { return x.defined() ? x : torch::empty({0}); }
inline torch::Tensor or_undefined(const torch::Tensor& x) { return x.numel() > 0 ? x : torch::Tensor(); }

}  // namespace diffuse
