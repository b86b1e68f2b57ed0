#include "diffuse/plot/sheet.hpp"

#include <fmt/format.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_easy_font.h>
#pragma GCC diagnostic pop

#include <algorithm>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/data/codec.hpp"
#include "diffuse/plot/gif.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int64_t kGap = 2, kMaxFrames = 12, kMaxColumns = 16, kMaxPixels = int64_t{1} << 28;
constexpr int64_t kSmallSide = 64, kTextMargin = 4, kTextHeight = 16;
constexpr int64_t kPixelsPerDot = kTextHeight / 8;  // stb's letters are 8 dots high
constexpr uint8_t kGapGrey = 128;

/// The pixels of `count` cells of a side and of the gaps around them.
int64_t tiled_side(int64_t count, int64_t side) { return count * (side + kGap) + kGap; }

int64_t rows_of(int64_t count, int64_t columns) { return (count + columns - 1) / columns; }

/// stb's corner of a rectangle.
struct Vertex {
    float x, y, z;
    uint8_t colour[4];
};

/// The rectangles that the letters consist of, four corners each.
std::vector<Vertex> rectangles(std::string text) {
    constexpr size_t kBytesPerLetter = 512;  // stb asks for 270 on average
    std::vector<Vertex> corners(text.size() * kBytesPerLetter / sizeof(Vertex) + 4);
    const int count =
        stb_easy_font_print(0, 0, text.data(), nullptr, corners.data(), int(corners.size() * sizeof(Vertex)));
    corners.resize(size_t(4 * count));
    return corners;
}

int64_t text_width(const std::string& text) {
    std::string copy = text;
    return kPixelsPerDot * stb_easy_font_width(copy.data());
}

/// Writes ASCII text in black into an image, uint8 [C, H, W], its upper left corner at (top, left); what does not fit
/// is left out.
void draw_text(const Tensor& image, const std::string& text, int64_t top, int64_t left) {
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

/// Room on the left of a sheet for the names of its rows, of which it has names.size() again and again.
Tensor with_captions(const Tensor& image, const std::vector<std::string>& names, int64_t row_height) {
    int64_t room = 0;
    for (const auto& name : names) room = std::max(room, text_width(name) + 2 * kTextMargin);
    const int64_t channels = image.size(0), height = image.size(1), width = image.size(2);
    const auto result = torch::full({channels, height, room + width}, kGapGrey, torch::kUInt8);
    result.narrow(2, room, width).copy_(image);
    for (int64_t row = 0; (row + 1) * row_height <= height; ++row) {
        const auto& name = names[size_t(row) % names.size()];
        const int64_t centre = row * row_height + (row_height - kTextHeight) / 2;
        draw_text(result, name, centre, kTextMargin);
    }
    return result;
}

/// The rows, cut into bands of at most kMaxColumns columns that follow below one another; empty cells are grey.
Tensor in_bands(const std::vector<Tensor>& rows, int64_t columns) {
    const int64_t count = rows[0].size(0);
    std::vector<Tensor> cells;
    for (int64_t first = 0; first < count; first += columns) {
        for (const auto& row : rows) {
            for (int64_t i = first; i < first + columns; ++i) {
                cells.push_back(i < count ? row[i] : torch::full_like(row[0], kGapGrey));
            }
        }
    }
    return torch::stack(cells);
}

/// One row an image: x_t, then x0.
Tensor frame_sheet(const Frame& frame, int64_t scale) {
    const auto pairs = torch::stack({frame.x.to(torch::kFloat32), frame.x0.to(torch::kFloat32)}, 1).flatten(0, 1);
    return sheet(to_bytes(pairs), 2, scale);
}

/// At most kMaxFrames of them, first and last included.
std::vector<Frame> some_of(const std::vector<Frame>& frames) {
    const size_t count = frames.size(), shown = std::min(count, size_t(kMaxFrames));
    std::vector<Frame> some;
    for (size_t i = 0; i < shown; ++i) some.push_back(frames[shown > 1 ? i * (count - 1) / (shown - 1) : 0]);
    return some;
}

}  // namespace

Tensor tile(const Tensor& images, int64_t columns) {
    const int64_t count = images.size(0), channels = images.size(1), height = images.size(2), width = images.size(3);
    columns = std::min(columns, count);
    auto result = torch::full({channels, tiled_side(rows_of(count, columns), height), tiled_side(columns, width)},
                              kGapGrey, torch::kUInt8);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t top = kGap + i / columns * (height + kGap), left = kGap + i % columns * (width + kGap);
        result.narrow(1, top, height).narrow(2, left, width).copy_(images[i]);
    }
    return result;
}

int64_t sheet_scale(const std::optional<int64_t>& asked, int64_t height, int64_t width) {
    return asked.value_or(std::max(height, width) < kSmallSide ? 2 : 1);
}

Tensor sheet(const Tensor& images, int64_t columns, int64_t scale) {
    return tile(images, columns).repeat_interleave(scale, 1).repeat_interleave(scale, 2);
}

Tensor captioned_sheet(const std::vector<Tensor>& rows, const std::vector<std::string>& names, int64_t scale) {
    const int64_t columns = std::min(rows[0].size(0), kMaxColumns);
    const int64_t row_height = scale * (rows[0].size(2) + kGap);
    return with_captions(sheet(in_bands(rows, columns), columns, scale), names, row_height);
}

void require_sheet(int64_t count, int64_t columns, int64_t height, int64_t width, int64_t scale) {
    columns = std::min(columns, count);
    const int64_t across = scale * tiled_side(columns, width);
    const int64_t down = scale * tiled_side(rows_of(count, columns), height);
    if (across <= kMaxPixels / down) return;
    throw Error(
        fmt::format("a grid of {} images would have {}x{} pixels, more than others open; take a smaller "
                    "scale, or fewer images (another seed draws others)",
                    count, across, down));
}

void write_trajectory(const std::filesystem::path& path, const std::vector<Frame>& frames, int64_t scale,
                      const PngTexts& texts) {
    if (file_ending(path) == ".gif") {
        std::vector<Tensor> sheets;
        for (const auto& frame : frames) sheets.push_back(frame_sheet(frame, scale));
        return write_gif(path, sheets);
    }
    const auto shown = some_of(frames);
    std::vector<Tensor> rows;
    for (int64_t image = 0; image < frames[0].x.size(0); ++image) {
        for (const auto state : {&Frame::x, &Frame::x0}) {
            std::vector<Tensor> row;
            for (const auto& frame : shown) row.push_back((frame.*state)[image].to(torch::kFloat32));
            rows.push_back(to_bytes(torch::stack(row)));
        }
    }
    write_png(path, captioned_sheet(rows, {"x_t", "x0"}, scale), texts);
}

}  // namespace diffuse
