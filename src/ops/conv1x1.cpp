#include <torch/csrc/autograd/custom_function.h>

#include "diffuse/ops/conv1x1.hpp"
#include "diffuse/ops/conv3x3.hpp"
#include "diffuse/ops/plain.hpp"
#include "ops/maps.hpp"
#include "ops/simd/kernels.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

Tensor packed_matrix(const Tensor& weight, bool backward) {
    const auto plain = weight.detach().flatten(1).contiguous(), result = torch::empty_like(plain);
    pack_dense(plain.data_ptr<float>(), plain.size(1), plain.size(0), backward, result.data_ptr<float>());
    return result;
}

/// x and skip on plain memory, which these tensors own, and the products that they take part in.
struct PlainRows {
    PlainRows(const Tensor& of_x, const Tensor& of_skip, int64_t out)
        : x(nhwc(of_x)),
          skip(of_skip.defined() ? nhwc(of_skip) : Tensor()),
          sizes{x.numel() / x.size(3), x.size(3), skip.defined() ? skip.size(3) : 0, out} {}
    const float* skip_data() const { return skip.defined() ? skip.data_ptr<float>() : nullptr; }
    Tensor x, skip;
    DenseSizes sizes;
};

struct Conv1x1Function : torch::autograd::Function<Conv1x1Function> {
    static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& maybe_skip,
                          const Tensor& weight, const Tensor& bias) {
        const auto skip = or_undefined(maybe_skip);
        context->save_for_backward({x, skip, weight});
        const PlainRows rows(x, skip, weight.size(0));
        const auto y = empty_map(x, weight.size(0), x.size(2), x.size(3));
        dense_forward(rows.sizes, rows.x.data_ptr<float>(), rows.skip_data(),
                      packed_matrix(weight, /*backward=*/false).data_ptr<float>(), bias.data_ptr<float>(),
                      /*add=*/false, y.data_ptr<float>());
        return y;
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   torch::autograd::variable_list output_gradients) {
        refuse_second_derivative();
        const auto saved = context->get_saved_variables();
        const auto &x = saved[0], &skip = saved[1], &weight = saved[2];
        const PlainRows rows(x, skip, weight.size(0));
        const auto dy = nhwc(output_gradients[0]);
        const auto like = [](const Tensor& map) { return torch::empty_like(map, torch::MemoryFormat::ChannelsLast); };
        const auto dx = like(x), dskip = skip.defined() ? like(skip) : Tensor();
        const bool of_weights = weight.requires_grad();
        const auto dweight = torch::zeros(weight.sizes()), dbias = torch::zeros({weight.size(0)});
        dense_backward(rows.sizes, rows.x.data_ptr<float>(), rows.skip_data(),
                       packed_matrix(weight, /*backward=*/true).data_ptr<float>(), dy.data_ptr<float>(),
                       {dx.data_ptr<float>()}, {skip.defined() ? dskip.data_ptr<float>() : nullptr},
                       of_weights ? dweight.data_ptr<float>() : nullptr,
                       of_weights ? dbias.data_ptr<float>() : nullptr);
        if (!of_weights) return {dx, dskip, {}, {}};
        return {dx, dskip, dweight, dbias};
    }
};

}  // namespace

Tensor conv1x1(const Tensor& x, const Tensor& skip, const Tensor& weight, const Tensor& bias) {
    const auto whole = [](int64_t channels) { return channels % kernels::kPanel == 0; };
    const bool tuned = x.is_cpu() && weight.is_cpu() && x.scalar_type() == torch::kFloat32 && whole(x.size(1)) &&
                       whole(weight.size(0)) && (!skip.defined() || whole(skip.size(1)));
    if (!tuned) return conv1x1_reference(x, skip, weight, bias);
    return Conv1x1Function::apply(x, or_empty(skip), weight, bias);
}

Tensor conv1x1_reference(const Tensor& x, const Tensor& skip, const Tensor& weight, const Tensor& bias) {
    return torch::conv2d(joined(x, skip), weight, bias);
}

}  // namespace diffuse
