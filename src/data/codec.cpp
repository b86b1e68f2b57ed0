#include "diffuse/data/codec.hpp"

#include <fmt/ranges.h>

namespace diffuse {

std::string to_string(const ExampleShape& shape) {
    if (shape.points) return fmt::format("{} number{}", shape.channels, shape.channels == 1 ? "" : "s");
    return fmt::format("{}", fmt::join(shape.sizes(), "x"));
}

std::string noun(const ExampleShape& shape) { return shape.points ? "point" : "image"; }

torch::Tensor to_signed(const torch::Tensor& bytes) { return bytes.to(torch::kFloat32).div_(127.5).sub_(1); }

torch::Tensor to_bytes(const torch::Tensor& images) {
    return images.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch::kUInt8);
}

torch::Tensor to_network(const torch::Tensor& examples) {
    return examples.scalar_type() == torch::kUInt8 ? to_signed(examples) : examples;
}

}  // namespace diffuse
