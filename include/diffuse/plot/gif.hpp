#pragma once

#include <filesystem>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Writes images of one size, uint8 [C, H, W], C 1 (greyscale) or 3 (RGB, of which each image keeps 256 colours),
/// as a looping GIF, 0.1 seconds each and the last one 2 seconds (GIF89a, CompuServe 1990).
void write_gif(const std::filesystem::path& path, const std::vector<torch::Tensor>& frames);

}  // namespace diffuse
