#include "diffuse/data/codec.hpp"

#include <cmath>

namespace diffuse {

torch::Tensor to_signed(const torch::Tensor& bytes) { return bytes.to(torch::kFloat32).div_(127.5).sub_(1); }

torch::Tensor to_bytes(const torch::Tensor& images) {
    return images.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch::kUInt8);
}

torch::Tensor to_network(const torch::Tensor& examples) {
    return examples.scalar_type() == torch::kUInt8 ? to_signed(examples) : examples;
}

torch::Tensor Codec::encode(const torch::Tensor& values) const {
    return columns.empty() ? to_signed(values) : standardised(values, columns);
}

torch::Tensor Codec::decode(const torch::Tensor& x) const {
    return columns.empty() ? to_bytes(x) : restored(x, columns);
}

torch::Tensor Codec::log_slope(const torch::Tensor& x) const {
    if (!columns.empty()) return diffuse::log_slope(x, columns);
    return torch::full({x.size(0)}, std::log(127.5) * double(x[0].numel()), torch::kFloat64);
}

}  // namespace diffuse
