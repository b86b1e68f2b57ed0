#include "diffuse/data/codec.hpp"

#include <fmt/ranges.h>

namespace diffuse {

std::string to_string(const ImageShape& shape) { return fmt::format("{}", fmt::join(shape.sizes(), "x")); }

torch::Tensor to_signed(const torch::Tensor& bytes) { return bytes.to(torch::kFloat32).div_(127.5).sub_(1); }

torch::Tensor to_bytes(const torch::Tensor& images) {
    return images.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch::kUInt8);
}

}  // namespace diffuse
