#pragma once

#include <array>
#include <optional>
#include <string>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// What a file says of the colours that its numbers mean. Where it says nothing, they are those of sRGB.
struct ColourSpace {
    std::string icc = "";              ///< an ICC profile, before which the others count for nothing
    std::optional<double> gamma = {};  ///< light grows as (number / 255)^gamma; none: by sRGB's curve
    /// x and y (CIE 1931) of white, red, green and blue; none: sRGB's.
    std::optional<std::array<double, 8>> chromaticities = {};
    std::string unread = "";  ///< what tells them in a way that is not read here
    bool operator==(const ColourSpace&) const = default;
    bool is_told() const { return !icc.empty() || gamma || chromaticities || !unread.empty(); }
};

/// Adobe RGB (1998), which cameras tell by a tag of Exif alone.
ColourSpace adobe_rgb();

/// An image in sRGB.
struct InSrgb {
    torch::Tensor image;
    bool changed = false;      ///< it was in another space
    std::string problem = "";  ///< why it was left as it is: "its ICC profile is damaged, or of other channels"
};

/// image: uint8 [C, H, W], C 1 to 4, of which the second or fourth is alpha. What is grey stays grey, and a space that
/// differs from sRGB by at most 3 of 255 changes nothing. Colours are matched by the relative colorimetric intent
/// (ICC.1:2010, section 6.2).
InSrgb to_srgb(const torch::Tensor& image, const ColourSpace& space);

}  // namespace diffuse
