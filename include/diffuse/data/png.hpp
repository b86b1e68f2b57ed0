#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffuse/base/torch.hpp"
#include "diffuse/data/colour.hpp"

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

/// What a PNG file says before its pixels. Throws Error when it is not one or is damaged.
struct PngHead {
    int64_t width = 0, height = 0;
    PngTexts texts = {};  ///< of chunks tEXt, and of chunks iTXt that are not compressed
    bool grey = false;    ///< it has no channels for colours, nor a palette
    /// Exif data, without the header that JPEG files have before them: of the chunk eXIf, or else of a text "Raw
    /// profile type exif", which ImageMagick wrote before there was that chunk.
    std::string exif = "";
    std::string xmp = "";      ///< XMP, an XML text, of the text "XML:com.adobe.xmp"
    ColourSpace colours = {};  ///< of the chunks iCCP, sRGB, gAMA and cHRM
};
PngHead read_png_head(const std::filesystem::path& path);
PngHead png_head(std::string_view bytes, const std::string& name);

}  // namespace diffuse
