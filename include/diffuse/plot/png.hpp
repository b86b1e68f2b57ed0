#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// What a picture says of itself: keywords of up to 79 Latin letters and UTF-8 texts, as {"Seed", "0"}.
using PngTexts = std::vector<std::pair<std::string, std::string>>;

/// Writes uint8 [C, H, W], C 1 (greyscale) or 3 (RGB), as a PNG file, each text in a chunk iTXt of its own.
void write_png(const std::filesystem::path& path, const torch::Tensor& image, const PngTexts& texts = {});

/// Whether a file's bytes begin as those of a PNG file.
bool is_png(std::string_view bytes);

/// Reads a PNG file as uint8 [C, H, W], C = 1 to 4 as the file has it. Throws Error when it is not one, is damaged, or
/// has a side of more than 4096 pixels.
torch::Tensor read_png(const std::filesystem::path& path);

/// Size and texts of a PNG file. Texts are those of chunks tEXt and of chunks iTXt that are not compressed. Throws
/// Error when it is not one or is damaged.
struct PngHead {
    int64_t width = 0, height = 0;
    PngTexts texts;
};
PngHead read_png_head(const std::filesystem::path& path);

/// The picture without its alpha channel, if it has one. Throws Error naming `path` where a pixel is not opaque.
torch::Tensor without_alpha(const torch::Tensor& image, const std::filesystem::path& path);

/// The picture as one channel of grey: RGB whose three channels are equal is reduced to one. Throws Error naming `path`
/// for colours and for transparency.
torch::Tensor to_grey(const torch::Tensor& image, const std::filesystem::path& path);

}  // namespace diffuse
