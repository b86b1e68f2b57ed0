#include "plot/caption.hpp"

#include <algorithm>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_easy_font.h>
#pragma GCC diagnostic pop

namespace diffuse {
namespace {

constexpr size_t kBytesPerLetter = 512;             ///< stb asks for 270 on average
constexpr int64_t kPixelsPerDot = kTextHeight / 8;  ///< stb's letters are 8 dots high

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

int64_t text_width(const std::string& text) {
    std::string copy = text;
    return kPixelsPerDot * stb_easy_font_width(copy.data());
}

void draw_text(const torch::Tensor& image, const std::string& text, int64_t top, int64_t left) {
    const auto inside = [&](int64_t start, float dots, int64_t size) {
        return std::clamp<int64_t>(start + kPixelsPerDot * int64_t(dots), 0, size);
    };
    const auto corners = rectangles(text);
    for (size_t i = 0; i < corners.size(); i += 4) {
        const Vertex &first = corners[i], &last = corners[i + 2];
        const int64_t x0 = inside(left, first.x, image.size(2)), x1 = inside(left, last.x, image.size(2));
        const int64_t y0 = inside(top, first.y, image.size(1)), y1 = inside(top, last.y, image.size(1));
        image.narrow(1, y0, y1 - y0).narrow(2, x0, x1 - x0).fill_(/*black*/ 0);
    }
}

}  // namespace diffuse
