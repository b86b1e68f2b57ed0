#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"
#include "diffuse/data/png.hpp"

namespace diffuse {

/// Images laid out in rows of `columns`, 2 pixels apart on grey. images: uint8 [N, C, H, W] -> uint8 [C, H', W'].
torch::Tensor tile(const torch::Tensor& images, int64_t columns);

/// Pixels a side that a pixel of an image is shown as: `asked`, or else 2 for images of less than 64 pixels, which
/// are a stamp on a modern screen, and 1 for others.
int64_t sheet_scale(const std::optional<int64_t>& asked, int64_t height, int64_t width);

/// As `tile`, each pixel shown as `scale` x `scale` of them.
torch::Tensor sheet(const torch::Tensor& images, int64_t columns, int64_t scale);

/// Images in rows of meaning, each with its name before it: "originals", "latents". rows: uint8 [N, C, H, W] each, of
/// one shape. More than 16 columns go on below, under the same names.
torch::Tensor captioned_sheet(const std::vector<torch::Tensor>& rows, const std::vector<std::string>& names,
                              int64_t scale);

/// Throws Error when a sheet of so many images would be too large for a PNG file that others open (2^28 pixels).
void require_sheet(int64_t count, int64_t columns, int64_t height, int64_t width, int64_t scale);

/// How images form, as an image or, when the path ends in .gif, as a moving one. Each frame holds x_t and the x0
/// predicted from it, both float [N, C, H, W] in about [-1, 1]. The image has a column for each of at most 12 frames
/// and two rows for each image; the moving one shows all frames, x_t on the left and x0 on the right.
struct Frame {
    torch::Tensor x, x0;
};
void write_trajectory(const std::filesystem::path& path, const std::vector<Frame>& frames, int64_t scale,
                      const PngTexts& texts = {});

}  // namespace diffuse
