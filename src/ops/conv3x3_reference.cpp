#include "diffuse/ops/conv3x3.hpp"
#include "ops/group_norm.hpp"
#include "ops/maps.hpp"

namespace diffuse {

using torch::Tensor;

Tensor activated(const ConvInput& input) {
    const auto per_channel = [](const Tensor& value) { return value.unsqueeze(2).unsqueeze(3); };
    const auto x = torch::group_norm(joined(input.x, input.skip), input.groups, {}, {}, kNormEpsilon);
    return torch::silu(torch::addcmul(per_channel(input.shift), x, per_channel(input.scale)));
}

Tensor conv3x3_reference(const ConvInput& input, const Tensor& weight, const Tensor& bias, const Tensor& residual) {
    auto x = input.groups > 0 ? activated(input) : joined(input.x, input.skip);
    if (input.upsample) x = torch::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
    const auto y = torch::conv2d(x, weight, bias, /*stride=*/1, /*padding=*/1);
    return residual.defined() ? y + residual : y;
}

}  // namespace diffuse
