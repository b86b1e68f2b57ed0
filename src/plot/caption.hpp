#pragma once

#include <string>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Size of a line of text in pixels, with letters of 8 x `scale` pixels.
struct TextSize {
    int64_t width, height;
};
TextSize text_size(const std::string& text, int64_t scale);

/// Writes ASCII text into an image, uint8 [C, H, W], its upper left corner at (top, left); what does not fit is left
/// out.
void draw_text(const torch::Tensor& image, const std::string& text, int64_t top, int64_t left, int64_t scale,
               uint8_t grey);

}  // namespace diffuse
