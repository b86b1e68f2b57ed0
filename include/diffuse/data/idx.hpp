#pragma once

#include <filesystem>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Reads an IDX file of unsigned bytes (the format of MNIST: magic 00 00 08 D, then D big-endian 32-bit sizes, then the
/// bytes), plain or gzip'd. `dimensions` is what is expected: 3 for images, 1 for labels; 0: 3 or 4.
/// Returns uint8 with the file's own shape. Throws Error naming the file when it is missing, truncated, too long,
/// damaged, of another kind, or claims an absurd size.
torch::Tensor read_idx(const std::filesystem::path& path, int dimensions = 0);

}  // namespace diffuse
