#pragma once

#include <cstdint>

namespace diffuse {

constexpr int64_t kDigitSize = 28;  ///< height and width of a drawn digit, as in MNIST

/// Draws one handwritten-looking digit, light strokes on black: it is written in one of a few ways, and its strokes are
/// bent, slanted, scaled, turned and thickened at random. As in MNIST, the ink's centre of mass is close to the middle;
/// the outer 3 pixels stay black. The image is a function of (label, seed, index).
/// label: 0 .. 9. index: below 2^56. pixels: kDigitSize * kDigitSize bytes, row by row, 0 (background) to 255 (ink).
void draw_digit(int label, uint64_t seed, uint64_t index, uint8_t* pixels);

}  // namespace diffuse
