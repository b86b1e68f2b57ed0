#pragma once

#include "diffuse/data/columns.hpp"

namespace diffuse {

/// uint8 0 .. 255 to float32 in [-1, 1], and back (rounded and clamped).
torch::Tensor to_signed(const torch::Tensor& bytes);
torch::Tensor to_bytes(const torch::Tensor& images);

/// Examples of a data set as a network sees them: bytes `to_signed`, points, which are kept so, as they are.
torch::Tensor to_network(const torch::Tensor& examples);

/// Between what files hold and what a network sees: images of bytes, or, where there are columns, points of numbers.
struct Codec {
    Columns columns = {};  ///< of points
    bool operator==(const Codec&) const = default;

    /// uint8 [N, C, H, W], or numbers, float64 [N, D], to float32 of the same shape.
    torch::Tensor encode(const torch::Tensor& values) const;
    /// Back.
    torch::Tensor decode(const torch::Tensor& x) const;
    /// log |d values / d x| summed over the numbers of each example, float64 [N]: what a log density of x loses as one
    /// of the values. Of images log(127.5) a pixel.
    torch::Tensor log_slope(const torch::Tensor& x) const;
};

}  // namespace diffuse
