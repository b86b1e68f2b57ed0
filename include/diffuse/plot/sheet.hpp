#pragma once

#include <filesystem>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Pictures laid out in rows of `columns`, 2 pixels apart on grey. images: uint8 [N, C, H, W] -> uint8 [C, H', W'].
torch::Tensor tile(const torch::Tensor& images, int64_t columns);

/// How images form, as a picture or, when the path ends in .gif, as a moving one. Each frame holds x_t and the x0
/// predicted from it, both float [N, C, H, W] in about [-1, 1]. The picture has a column for each of at most 12 frames
/// and two rows for each image; the moving one shows all frames, x_t on the left and x0 on the right.
struct Frame {
    torch::Tensor x, x0;
};
void write_trajectory(const std::filesystem::path& path, const std::vector<Frame>& frames);

}  // namespace diffuse
