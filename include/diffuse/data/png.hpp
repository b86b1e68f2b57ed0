#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// What an image says of itself: keywords of up to 79 Latin letters and UTF-8 texts, as {"Seed", "0"}.
using PngTexts = std::vector<std::pair<std::string, std::string>>;

/// Writes uint8 [C, H, W], C 1 (greyscale) or 3 (RGB), as a PNG file, each text in a chunk iTXt of its own.
void write_png(const std::filesystem::path& path, const torch::Tensor& image, const PngTexts& texts = {});

/// Whether a file's bytes begin as those of a PNG file.
bool is_png(std::string_view bytes);

/// Reads a PNG file as uint8 [C, H, W], C = 1 to 4 as the file has it; palettes are looked up, of 16 bits a channel the
/// upper 8 are taken. Throws Error when it is not one, is damaged, or has a side of more than 16,384 pixels.
torch::Tensor read_png(const std::filesystem::path& path);
/// The same of the file's bytes; errors begin with `name`.
torch::Tensor decode_png(std::string_view bytes, const std::string& name);

/// Size, texts and Exif data of a PNG file. Texts are those of chunks tEXt and of chunks iTXt that are not compressed.
/// Throws Error when it is not one or is damaged.
struct PngHead {
    int64_t width = 0, height = 0;
    PngTexts texts = {};
    std::string exif;   ///< of the chunk eXIf, without the header that JPEG files have before it
    bool grey = false;  ///< it has no channels for colours, nor a palette
};
PngHead read_png_head(const std::filesystem::path& path);
PngHead png_head(std::string_view bytes, const std::string& name);

}  // namespace diffuse
