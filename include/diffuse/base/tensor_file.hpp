#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// A safetensors file: named tensors and text. Python reads one with safetensors.torch.load_file(path).
struct TensorFile {
    std::map<std::string, torch::Tensor> tensors;  ///< of floating point or whole numbers, on the CPU
    std::map<std::string, std::string> metadata;

    /// The tensor called `name`. Throws Error naming `path` and what is there when it is not.
    const torch::Tensor& at(const std::string& name, const std::filesystem::path& path) const;
};

void write_tensor_file(const std::filesystem::path& path, const TensorFile& file);

/// Tensors of types that LibTorch has not (U16, F8_E4M3 and others; BOOL too) are checked, but not kept.
/// Strict: the header must be JSON within bounds; the tensors must cover the data without gap or overlap; sizes are
/// checked for overflow and against the file's own. Throws Error naming the file and what is wrong with it.
TensorFile read_tensor_file(const std::filesystem::path& path);

/// The same for the bytes of such a file, whose errors call it `name`.
TensorFile parse_tensor_file(std::string_view bytes, const std::string& name);

}  // namespace diffuse
