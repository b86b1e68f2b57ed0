#pragma once

#include <filesystem>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Pictures laid out in rows of `columns`, 2 pixels apart on grey. images: uint8 [N, C, H, W] -> uint8 [C, H', W'].
torch::Tensor tile(const torch::Tensor& images, int64_t columns);

/// Writes uint8 [C, H, W], C 1 (greyscale) or 3 (RGB), as a PNG file.
void write_png(const std::filesystem::path& path, const torch::Tensor& image);

/// Reads a PNG file as uint8 [C, H, W], C = 1 to 4 as the file has it. Throws Error when it is not one, is damaged, or
/// has a side of more than 4096 pixels.
torch::Tensor read_png(const std::filesystem::path& path);

/// The picture as greyscale: as it is with one channel; RGB whose three channels are equal is reduced to one. Throws
/// Error naming `path` for colours and for transparency.
torch::Tensor to_grey(const torch::Tensor& image, const std::filesystem::path& path);

/// How images form, as a picture or, when the path ends in .gif, as a moving one. Each frame holds x_t and the x0
/// predicted from it, both float [N, C, H, W] in about [-1, 1]. The picture has a column for each of at most 12 frames
/// and two rows for each image; the moving one shows all frames, x_t on the left and x0 on the right.
struct Frame {
    torch::Tensor x, x0;
};
void write_trajectory(const std::filesystem::path& path, const std::vector<Frame>& frames);

}  // namespace diffuse
