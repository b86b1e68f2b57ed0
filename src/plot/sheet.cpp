#include "diffuse/plot/sheet.hpp"

#include "diffuse/data/codec.hpp"
#include "diffuse/plot/gif.hpp"
#include "diffuse/plot/png.hpp"

namespace diffuse {
namespace {

constexpr int64_t kGap = 2, kMaxColumns = 12;
constexpr uint8_t kGapGrey = 128;

torch::Tensor grey_sheet(const torch::Tensor& images, int64_t columns) {
    return tile(to_bytes(images.to(torch::kFloat32)), columns);
}

/// One row an image: x_t, then x0.
torch::Tensor frame_sheet(const Frame& frame) {
    return grey_sheet(torch::stack({frame.x.to(torch::kFloat32), frame.x0.to(torch::kFloat32)}, 1).flatten(0, 1), 2);
}

}  // namespace

torch::Tensor tile(const torch::Tensor& images, int64_t columns) {
    const int64_t count = images.size(0), channels = images.size(1), height = images.size(2), width = images.size(3);
    columns = std::min(columns, count);
    const int64_t rows = (count + columns - 1) / columns;
    auto sheet = torch::full({channels, rows * (height + kGap) + kGap, columns * (width + kGap) + kGap}, kGapGrey,
                             torch::kUInt8);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t top = kGap + i / columns * (height + kGap), left = kGap + i % columns * (width + kGap);
        sheet.narrow(1, top, height).narrow(2, left, width).copy_(images[i]);
    }
    return sheet;
}

void write_trajectory(const std::filesystem::path& path, const std::vector<Frame>& frames) {
    if (path.extension() == ".gif") {
        std::vector<torch::Tensor> sheets;
        for (const auto& frame : frames) sheets.push_back(frame_sheet(frame));
        return write_gif(path, sheets);
    }
    const int64_t count = std::ssize(frames), columns = std::min(count, kMaxColumns), images = frames[0].x.size(0);
    std::vector<torch::Tensor> cells;
    for (int64_t image = 0; image < images; ++image) {
        for (const bool clean : {false, true}) {
            for (int64_t column = 0; column < columns; ++column) {
                const Frame& frame = frames[size_t(columns > 1 ? column * (count - 1) / (columns - 1) : 0)];
                cells.push_back((clean ? frame.x0 : frame.x)[image].to(torch::kFloat32));
            }
        }
    }
    write_png(path, grey_sheet(torch::stack(cells), columns));
}

}  // namespace diffuse
