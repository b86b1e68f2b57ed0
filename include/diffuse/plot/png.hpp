#pragma once

#include <filesystem>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Writes uint8 [C, H, W], C 1 (greyscale) or 3 (RGB), as a PNG file.
void write_png(const std::filesystem::path& path, const torch::Tensor& image);

/// Reads a PNG file as uint8 [C, H, W], C = 1 to 4 as the file has it. Throws Error when it is not one, is damaged, or
/// has a side of more than 4096 pixels.
torch::Tensor read_png(const std::filesystem::path& path);

/// The picture without its alpha channel, if it has one. Throws Error naming `path` where a pixel is not opaque.
torch::Tensor without_alpha(const torch::Tensor& image, const std::filesystem::path& path);

/// The picture as one channel of grey: RGB whose three channels are equal is reduced to one. Throws Error naming `path`
/// for colours and for transparency.
torch::Tensor to_grey(const torch::Tensor& image, const std::filesystem::path& path);

}  // namespace diffuse
