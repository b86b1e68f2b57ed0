#pragma once

#include <filesystem>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Writes grey pictures of one size, uint8 [1, H, W], as a looping GIF, 0.1 seconds each and the last one 2 seconds
/// (GIF89a, CompuServe 1990).
void write_gif(const std::filesystem::path& path, const std::vector<torch::Tensor>& frames);

}  // namespace diffuse
