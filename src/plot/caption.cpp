#include "plot/caption.hpp"

#include <algorithm>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_easy_font.h>
#pragma GCC diagnostic pop

namespace diffuse {
namespace {

constexpr size_t kBytesPerLetter = 512;  ///< stb asks for 270 on average

/// stb's corner of a rectangle.
struct Vertex {
    float x, y, z;
    uint8_t colour[4];
};

/// The rectangles that the letters consist of, four corners each.
std::vector<Vertex> rectangles(std::string text) {
    std::vector<Vertex> corners(text.size() * kBytesPerLetter / sizeof(Vertex) + 4);
    const int count =
        stb_easy_font_print(0, 0, text.data(), nullptr, corners.data(), int(corners.size() * sizeof(Vertex)));
    corners.resize(size_t(4 * count));
    return corners;
}

}  // namespace

TextSize text_size(const std::string& text, int64_t scale) {
    std::string copy = text;
    return {scale * stb_easy_font_width(copy.data()), 8 * scale};
}

void draw_text(const torch::Tensor& image, const std::string& text, int64_t top, int64_t left, int64_t scale,
               uint8_t grey) {
    const auto inside = [](int64_t value, int64_t size) { return std::clamp<int64_t>(value, 0, size); };
    const auto corners = rectangles(text);
    for (size_t i = 0; i < corners.size(); i += 4) {
        const Vertex &first = corners[i], &last = corners[i + 2];
        const int64_t x0 = inside(left + scale * int64_t(first.x), image.size(2));
        const int64_t x1 = inside(left + scale * int64_t(last.x), image.size(2));
        const int64_t y0 = inside(top + scale * int64_t(first.y), image.size(1));
        const int64_t y1 = inside(top + scale * int64_t(last.y), image.size(1));
        image.narrow(1, y0, y1 - y0).narrow(2, x0, x1 - x0).fill_(grey);
    }
}

}  // namespace diffuse
