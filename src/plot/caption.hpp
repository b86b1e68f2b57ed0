#pragma once

#include <string>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Of a line of text, in pixels.
inline constexpr int64_t kTextHeight = 16;
int64_t text_width(const std::string& text);

/// Writes ASCII text in black into an image, uint8 [C, H, W], its upper left corner at (top, left); what does not fit
/// is left out.
void draw_text(const torch::Tensor& image, const std::string& text, int64_t top, int64_t left);

}  // namespace diffuse
