#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace diffuse {

/// Size of one example: an image, or a point of `channels` numbers.
struct ExampleShape {
    int64_t channels = 1, height = 28, width = 28;
    bool points = false;
    static ExampleShape of_points(int64_t numbers) { return {numbers, 1, 1, true}; }
    bool operator==(const ExampleShape&) const = default;
    int64_t numel() const { return channels * height * width; }
    /// [C, H, W], or [D] of points.
    std::vector<int64_t> sizes() const { return points ? std::vector{channels} : std::vector{channels, height, width}; }
};
std::string to_string(const ExampleShape& shape);  ///< "1x28x28", "2 numbers"
std::string noun(const ExampleShape& shape);       ///< "image", "point"

}  // namespace diffuse
