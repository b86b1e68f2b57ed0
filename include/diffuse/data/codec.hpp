#pragma once

#include <array>
#include <string>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Size of one image.
struct ImageShape {
    int64_t channels = 1, height = 28, width = 28;
    bool operator==(const ImageShape&) const = default;
    int64_t numel() const { return channels * height * width; }
    std::array<int64_t, 3> sizes() const { return {channels, height, width}; }
};
std::string to_string(const ImageShape& shape);  ///< "1x28x28"

/// uint8 0 .. 255 to float32 in [-1, 1], and back (rounded and clamped).
torch::Tensor to_signed(const torch::Tensor& bytes);
torch::Tensor to_bytes(const torch::Tensor& images);

}  // namespace diffuse
