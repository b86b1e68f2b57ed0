#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// What a file of an image says before its pixels; sides as the image is to be looked at.
struct ImageHead {
    std::string format;  ///< "PNG" or "JPEG"
    int64_t height = 0, width = 0;
    bool grey = false;  ///< it has no channels for colours
};

/// Whether a file is meant as an image, to be read here or not: by its first bytes, of which kImageBeginning are
/// enough, or by how its name ends.
constexpr size_t kImageBeginning = 64;
bool is_image(std::string_view beginning, const std::filesystem::path& path);

/// PNG and JPEG files, told apart by their bytes. Both throw Error, beginning with `name`, for bytes that are neither,
/// or damaged, or a JPEG file in CMYK.
ImageHead image_head(std::string_view bytes, const std::string& name);

struct DecodedImage {
    /// uint8 [C, H, W], C 1 to 4: grey, grey and alpha, RGB, RGB and alpha. Palettes are looked up, and of 16 bits a
    /// channel the upper 8 are taken.
    torch::Tensor pixels;
    bool converted = false;   ///< to sRGB, from the colours that its file tells
    std::string remark = "";  ///< what is wrong with it, though it could be read
};
/// Upright, as the orientation tag of its Exif data (Exif 2.3, tag 274) or else of its XMP says, and in sRGB.
DecodedImage decode_image(std::string_view bytes, const std::string& name);

/// Turned and mirrored as the tag of orientation 1 .. 8 says. image: [C, H, W].
torch::Tensor upright(const torch::Tensor& image, int orientation);

/// What images of all kinds are made into.
struct ImageRule {
    int64_t channels = 3;  ///< 1 or 3
    int64_t height = 0, width = 0;
    std::optional<std::array<uint8_t, 3>> background;  ///< RGB behind transparent pixels
};

/// The channels of a rule without alpha: uint8 [C, H, W] with C = 1 or 3. Colours become grey as 0.299 R + 0.587 G +
/// 0.114 B (ITU-R BT.601). Throws Error, beginning with `name`, for transparent pixels where there is no background.
torch::Tensor with_channels(const torch::Tensor& image, const ImageRule& rule, const std::string& name);

/// Whether the three channels of an RGB image differ anywhere.
bool has_colours(const torch::Tensor& image);

/// The largest part in the middle that has the shape of the rule, then each new pixel the mean of the area it covers.
/// image: uint8 [C, H, W].
torch::Tensor fitted(const torch::Tensor& image, int64_t height, int64_t width);

/// "black", "white" or "#rrggbb"; nothing for "". Throws Error for other texts.
std::optional<std::array<uint8_t, 3>> parse_colour(const std::string& text);

}  // namespace diffuse
