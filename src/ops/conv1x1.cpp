#include <torch/csrc/autograd/custom_function.h>

#include "diffuse/ops/conv1x1.hpp"
#include "ops/maps.hpp"
#include "ops/simd/kernels.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int64_t kPixelsAtOnce = 96;  // rows of all maps that stay in the L2 cache

/// A matrix [inner, columns] in panels of kPanel columns (kernels.hpp).
Tensor panels(const Tensor& matrix) {
    return matrix.view({matrix.size(0), -1, kernels::kPanel}).transpose(0, 1).contiguous();
}

/// Calls work(first, count) for the pixels of `map`, some at a time.
template <class Work>
void for_pixels(const Tensor& map, const Work& work) {
    const int64_t pixels = map.size(0) * map.size(2) * map.size(3);
    for (int64_t first = 0; first < pixels; first += kPixelsAtOnce) {
        work(first, std::min(kPixelsAtOnce, pixels - first));
    }
}

/// The columns of weight [C', C, 1, 1] that belong to x and to skip, [C', C_i].
std::vector<Tensor> parts(const Tensor& weight, const std::vector<Tensor>& maps) {
    std::vector<Tensor> result;
    int64_t first = 0;
    for (const auto& map : maps) {
        result.push_back(weight.flatten(1).narrow(1, first, map.size(3)));
        first += map.size(3);
    }
    return result;
}

/// x and skip, contiguous [N, H, W, C_i].
std::vector<Tensor> sources(const Tensor& x, const Tensor& skip) {
    std::vector<Tensor> maps = {nhwc(x)};
    if (skip.defined()) maps.push_back(nhwc(skip));
    return maps;
}

struct Conv1x1 : torch::autograd::Function<Conv1x1> {
    static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& maybe_skip,
                          const Tensor& weight, const Tensor& bias) {
        const auto skip = or_undefined(maybe_skip);
        context->save_for_backward({x, skip, weight});
        const auto maps = sources(x, skip);
        const int64_t out = weight.size(0);
        std::vector<Tensor> packed;
        for (const auto& part : parts(weight, maps)) packed.push_back(panels(part.t()));
        const auto y = empty_map(x, out, x.size(2), x.size(3));
        for_pixels(y, [&](int64_t first, int64_t count) {
            for (size_t s = 0; s < maps.size(); ++s) {
                const int64_t in = maps[s].size(3);
                kernels::multiply(maps[s].data_ptr<float>() + first * in, count, in, packed[s].data_ptr<float>(), out,
                                  bias.data_ptr<float>(), /*add=*/s > 0, y.data_ptr<float>() + first * out);
            }
        });
        return y;
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   torch::autograd::variable_list output_gradients) {
        refuse_second_derivative();
        const auto saved = context->get_saved_variables();
        const auto &x = saved[0], &skip = saved[1], &weight = saved[2];
        const auto maps = sources(x, skip);
        const bool want_weight = weight.requires_grad();
        const int64_t out = weight.size(0);
        const auto dy = nhwc(output_gradients[0]);
        std::vector<Tensor> packed, of_maps, of_weights;
        for (const auto& part : parts(weight, maps)) {
            packed.push_back(panels(part));
            of_maps.push_back(empty_map(x, part.size(1), x.size(2), x.size(3)));
            of_weights.push_back(torch::zeros({part.size(1), out}));
        }
        std::vector<float> sums(size_t(3 * out));
        auto of_bias = torch::zeros({out}, torch::kFloat64);
        for_pixels(x, [&](int64_t first, int64_t count) {
            float* const of_y = dy.data_ptr<float>() + first * out;
            for (size_t s = 0; s < maps.size(); ++s) {
                const int64_t in = maps[s].size(3);
                kernels::multiply(of_y, count, out, packed[s].data_ptr<float>(), in, nullptr, /*add=*/false,
                                  of_maps[s].data_ptr<float>() + first * in);
                if (!want_weight) continue;
                kernels::multiply_transposed({maps[s].data_ptr<float>() + first * in, in, 0}, count, {of_y, out, 0},
                                             /*points=*/1, of_weights[s].data_ptr<float>());
            }
            if (!want_weight) return;
            kernels::channel_sums(of_y, count, out, sums.data());
            for (int64_t c = 0; c < out; ++c) {
                of_bias.data_ptr<double>()[c] +=
                    double(count) * double(sums[size_t(c)]) + double(sums[size_t(out + c)]);
            }
        });
        const auto of_skip = skip.defined() ? of_maps[1] : Tensor();
        if (!want_weight) return {of_maps[0], of_skip, {}, {}};
        return {of_maps[0], of_skip, torch::cat(of_weights).t().reshape_as(weight), of_bias.to(torch::kFloat32)};
    }
};

}  // namespace

Tensor conv1x1(const Tensor& x, const Tensor& skip, const Tensor& weight, const Tensor& bias) {
    const auto whole = [](int64_t channels) { return channels % kernels::kPanel == 0; };
    const bool tuned = x.is_cpu() && weight.is_cpu() && x.scalar_type() == torch::kFloat32 && whole(x.size(1)) &&
                       whole(weight.size(0)) && (!skip.defined() || whole(skip.size(1)));
    if (!tuned) return conv1x1_reference(x, skip, weight, bias);
    return Conv1x1::apply(x, or_empty(skip), weight, bias);
}

Tensor conv1x1_reference(const Tensor& x, const Tensor& skip, const Tensor& weight, const Tensor& bias) {
    return torch::conv2d(joined(x, skip), weight, bias);
}

}  // namespace diffuse
