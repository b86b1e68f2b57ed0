#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Whether bytes are the beginning of a file that NumPy writes: of one array (.npy) or of several (.npz).
bool is_numpy(std::string_view beginning);

/// Reads the arrays of such a file by their names, of a .npy one that is called "". Format versions 1 and 2
/// (numpy.lib.format), little-endian float16, float32 and float64 in C's or Fortran's order; a .npz is a zip file of
/// these, stored or deflated, below 4 GiB. Strict: sizes are checked for overflow and against the file's own, and so
/// are the CRC-32 of a .npz. Throws Error naming the file and what is wrong with it.
std::map<std::string, torch::Tensor> read_numpy(const std::filesystem::path& path);

/// The same of a file's bytes, whose errors call it `name`.
std::map<std::string, torch::Tensor> parse_numpy(std::string_view bytes, const std::string& name);

}  // namespace diffuse
