#include <torch/csrc/autograd/custom_function.h>

#include "diffuse/base/error.hpp"
#include "diffuse/ops/conv3x3.hpp"
#include "diffuse/ops/plain.hpp"
#include "ops/maps.hpp"
#include "ops/simd/kernels.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

float* data(const Tensor& x) { return x.defined() ? x.data_ptr<float>() : nullptr; }

Tensor packed(const Tensor& weight, bool backward) {
    const auto plain = nhwc(weight.detach());
    const auto result = torch::empty({packed_conv3x3_size(weight.size(1), weight.size(0), backward)});
    pack_conv3x3(plain.data_ptr<float>(), weight.size(1), weight.size(0), backward, result.data_ptr<float>());
    return result;
}

/// What a convolution reads, as plain memory, which these tensors own.
struct PlainInput {
    PlainInput(const Tensor& of_x, const Tensor& of_skip, int64_t groups, const Tensor& of_scale,
               const Tensor& of_shift, bool upsample, int64_t out)
        : x(nhwc(of_x)),
          skip(of_skip.defined() ? nhwc(of_skip) : Tensor()),
          scale(groups > 0 ? of_scale.contiguous() : Tensor()),
          shift(groups > 0 ? of_shift.contiguous() : Tensor()),
          sizes{x.size(0),
                x.size(1) << int(upsample),
                x.size(2) << int(upsample),
                x.size(3),
                skip.defined() ? skip.size(3) : 0,
                out,
                groups,
                upsample} {}
    Conv3x3Input with(const Tensor& mean, const Tensor& inverse) const {
        const bool each = scale.defined() && scale.size(0) > 1;
        return {data(x), data(skip), data(scale), data(shift), each ? sizes.in() : 0, data(mean), data(inverse)};
    }
    Tensor x, skip, scale, shift;
    Conv3x3Sizes sizes;
};

/// Gradients of something that was broadcast over the images.
Tensor summed(const Tensor& gradient, const Tensor& like) {
    return like.size(0) == gradient.size(0) ? gradient : gradient.sum(0, /*keepdim=*/true);
}

struct Conv3x3Function : torch::autograd::Function<Conv3x3Function> {
    static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& maybe_skip,
                          int64_t groups, const Tensor& scale, const Tensor& shift, bool upsample, const Tensor& weight,
                          const Tensor& bias, const Tensor& maybe_residual) {
        const auto skip = or_undefined(maybe_skip), residual = or_undefined(maybe_residual);
        const PlainInput input(x, skip, groups, scale, shift, upsample, weight.size(0));
        const auto mean = torch::empty({x.size(0), groups}), inverse = torch::empty({x.size(0), groups});
        context->saved_data["groups"] = groups;
        context->saved_data["upsample"] = upsample;
        context->saved_data["residual"] = residual.defined();
        context->save_for_backward({x, skip, input.scale, input.shift, weight, mean, inverse});
        const auto y = empty_map(x, weight.size(0), input.sizes.height, input.sizes.width);
        const auto added = residual.defined() ? nhwc(residual) : Tensor();
        conv3x3_forward(input.sizes, input.with(mean, inverse), data(packed(weight, /*backward=*/false)), data(bias),
                        data(added), data(y));
        return y;
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   torch::autograd::variable_list output_gradients) {
        refuse_second_derivative();
        const auto saved = context->get_saved_variables();
        const auto &x = saved[0], &skip = saved[1], &weight = saved[4];
        const int64_t groups = context->saved_data["groups"].toInt();
        const PlainInput input(x, skip, groups, saved[2], saved[3], context->saved_data["upsample"].toBool(),
                               weight.size(0));
        const auto like = [](const Tensor& map) {
            return map.defined() ? torch::empty_like(map, torch::MemoryFormat::ChannelsLast) : Tensor();
        };
        const bool of_weights = weight.requires_grad();
        const auto dx = like(x), dskip = like(skip), dy = nhwc(output_gradients[0]);
        const auto zeros = [&](const Tensor& one) { return of_weights ? torch::zeros_like(one) : Tensor(); };
        const auto dweight = zeros(nhwc(weight.detach())),
                   dbias = zeros(weight.detach().select(1, 0).select(1, 0).select(1, 0));
        const auto dscale = torch::empty({groups > 0 ? x.size(0) : 0, input.sizes.in()}),
                   dshift = torch::empty_like(dscale);
        conv3x3_backward(input.sizes, input.with(saved[5], saved[6]), data(packed(weight, /*backward=*/true)), data(dy),
                         {{data(dx)}, {data(dskip)}, data(dscale), data(dshift), data(dweight), data(dbias)});
        const auto of_scale = groups > 0 ? summed(dscale, saved[2]) : Tensor();
        const auto of_shift = groups > 0 ? summed(dshift, saved[3]) : Tensor();
        const auto of_weight = of_weights ? dweight.permute({0, 3, 1, 2}) : Tensor();
        const auto of_residual = context->saved_data["residual"].toBool() ? output_gradients[0] : Tensor();
        return {dx, dskip, {}, of_scale, of_shift, {}, of_weight, dbias, of_residual};
    }
};

}  // namespace

void refuse_second_derivative() {
    if (!at::GradMode::is_enabled()) return;
    throw Error("the tuned convolutions have no second derivative (create_graph); use their references from LibTorch");
}

Tensor conv3x3(const ConvInput& input, const Tensor& weight, const Tensor& bias, const Tensor& residual) {
    const auto whole = [](int64_t channels) { return channels % kernels::kChannels == 0; };
    const bool tuned = input.x.is_cpu() && weight.is_cpu() && input.x.scalar_type() == torch::kFloat32 &&
                       (!input.skip.defined() || (whole(input.x.size(1)) && whole(input.skip.size(1)))) &&
                       (input.groups == 0 || (whole(weight.size(1)) && !input.upsample));
    if (!tuned) return conv3x3_reference(input, weight, bias, residual);
    return Conv3x3Function::apply(input.x, or_empty(input.skip), input.groups, or_empty(input.scale),
                                  or_empty(input.shift), input.upsample, weight, bias, or_empty(residual));
}

}  // namespace diffuse
