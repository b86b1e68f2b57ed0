#include "diffuse/ops/conv3x3.hpp"

#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <cstdlib>
#include <new>

#include "ops/maps.hpp"
#include "ops/simd/kernels.hpp"

namespace diffuse {
namespace {

using kernels::round_up;
using torch::Tensor;

// Tiles worked on at once: so many rows keep the products busy, and what they need stays in the L2 or L3 cache.
constexpr int64_t kTilesAtOnce = 48;

/// Memory for intermediate results, kept by each thread from call to call.
class Workspace {
public:
    ~Workspace() { std::free(data_); }
    /// Forgets what was taken and makes room for `size` numbers.
    void reserve(int64_t size) {
        taken_ = 0;
        if (size <= size_) return;
        std::free(data_);
        size_ = 0;
        data_ = static_cast<float*>(std::aligned_alloc(64, size_t(round_up(size, 16)) * sizeof(float)));
        if (!data_) throw std::bad_alloc();
        size_ = round_up(size, 16);
    }
    float* take(int64_t size) {
        float* const result = data_ + taken_;
        taken_ += round_up(size, 16);
        TORCH_INTERNAL_ASSERT(taken_ <= size_);
        return result;
    }

private:
    float* data_ = nullptr;
    int64_t size_ = 0, taken_ = 0;
};
thread_local Workspace workspace;

/// One of the maps that a convolution reads.
struct Source {
    const float* data;
    int64_t channels, first;  ///< its channels are first .. first + channels - 1 of all
};

/// Sizes and parts of one convolution, the same forward and backward.
struct Plan {
    Plan(const Tensor& x, const Tensor& skip, int64_t norm_groups, bool is_upsample, const Tensor& weight)
        : images(x.size(0)),
          shape{x.size(2) << int(is_upsample), x.size(3) << int(is_upsample)},
          in_pixels(x.size(2) * x.size(3)),
          out_pixels(shape.height * shape.width),
          in(weight.size(1)),
          out(weight.size(0)),
          padded_in(round_up(in, kernels::kChannels)),
          padded_out(round_up(out, kernels::kPanel)),
          groups(norm_groups),
          upsample(is_upsample),
          at_once(std::max<int64_t>(1, kTilesAtOnce / shape.tiles())),
          tiles(at_once * shape.tiles()) {
        maps.push_back(nhwc(x));
        sources.push_back({maps[0].data_ptr<float>(), x.size(1), 0});
        if (!skip.defined()) return;
        maps.push_back(nhwc(skip));
        sources.push_back({maps[1].data_ptr<float>(), skip.size(1), x.size(1)});
    }

    kernels::Tiles take_tiles(int64_t channels) const {
        const int64_t stride = tile_stride(channels);
        return {workspace.take(kernels::kPoints * stride), channels, stride};
    }
    int64_t tile_stride(int64_t channels) const { return tiles * channels + 16; }
    int64_t tiles_size(int64_t channels) const { return kernels::kPoints * tile_stride(channels) + 16; }

    int64_t images;
    kernels::Shape shape;
    int64_t in_pixels, out_pixels, in, out, padded_in, padded_out, groups;
    bool upsample;
    int64_t at_once, tiles;
    std::vector<Tensor> maps;
    std::vector<Source> sources;
};

/// Mean and 1 / standard deviation of each group of channels, [images, groups] each.
struct Statistics {
    Tensor mean, scale;
};

/// Those of one image, which stays in the cache for what reads it next.
void measure(const Plan& plan, int64_t image, const Statistics& stats) {
    const int64_t per_group = plan.in / plan.groups;
    std::vector<float> sums(size_t(3 * plan.in));
    std::vector<double> mean(size_t(plan.in)), variance(size_t(plan.in));
    const double n = double(plan.in_pixels);
    for (const auto& source : plan.sources) {
        kernels::channel_sums(source.data + image * plan.in_pixels * source.channels, plan.in_pixels, source.channels,
                              sums.data());
        for (int64_t c = 0; c < source.channels; ++c) {
            const double away = double(sums[size_t(source.channels + c)]) / n;
            const size_t to = size_t(source.first + c);
            mean[to] = double(sums[size_t(c)]) + away;
            variance[to] = double(sums[size_t(2 * source.channels + c)]) / n - away * away;
        }
    }
    for (int64_t g = 0; g < plan.groups; ++g) {
        double group_mean = 0, group_variance = 0;
        for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) group_mean += mean[size_t(c)] / double(per_group);
        for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c)
            group_variance += (variance[size_t(c)] + std::pow(mean[size_t(c)] - group_mean, 2)) / double(per_group);
        stats.mean.data_ptr<float>()[image * plan.groups + g] = float(group_mean);
        stats.scale.data_ptr<float>()[image * plan.groups + g] = float(1 / std::sqrt(group_variance + kNormEpsilon));
    }
}

/// The normalisation with scale and shift as one: a x + b, of one image.
struct Affine {
    Affine(const Plan& plan, const Statistics& stats, const Tensor& scale, const Tensor& shift, int64_t image)
        : a(size_t(plan.in)), b(size_t(plan.in)) {
        const float* s = scale.data_ptr<float>() + (scale.size(0) > 1 ? image * plan.in : 0);
        const float* t = shift.data_ptr<float>() + (shift.size(0) > 1 ? image * plan.in : 0);
        const float* mean = stats.mean.data_ptr<float>() + image * plan.groups;
        const float* inverse = stats.scale.data_ptr<float>() + image * plan.groups;
        for (int64_t c = 0; c < plan.in; ++c) {
            const int64_t g = c / (plan.in / plan.groups);
            a[size_t(c)] = inverse[g] * s[c];
            b[size_t(c)] = t[c] - mean[g] * a[size_t(c)];
        }
    }
    std::vector<float> a, b;
};

/// What the convolution reads of `image`, padded.
void read_input(const Plan& plan, const Affine* affine, int64_t image, float* padded) {
    for (const auto& source : plan.sources) {
        kernels::pad(source.data + image * plan.in_pixels * source.channels, source.channels,
                     affine ? affine->a.data() + source.first : nullptr,
                     affine ? affine->b.data() + source.first : nullptr, plan.upsample, plan.shape, padded,
                     source.first, plan.padded_in);
    }
}

/// Fills `stats` too.
Tensor forward(const Plan& plan, const Statistics& stats, const Tensor& scale, const Tensor& shift,
               const Tensor& packed, const Tensor& bias, const Tensor& residual) {
    const auto y = empty_map(plan.maps[0], plan.out, plan.shape.height, plan.shape.width);
    const auto added = residual.defined() ? nhwc(residual) : Tensor();
    workspace.reserve(plan.shape.padded_pixels() * plan.padded_in + plan.tiles_size(plan.padded_in) + 64);
    float* const padded = workspace.take(plan.shape.padded_pixels() * plan.padded_in);
    const auto in = plan.take_tiles(plan.padded_in);
    const int64_t size = plan.out_pixels * plan.out, tiles = plan.shape.tiles();
    for (int64_t first = 0; first < plan.images; first += plan.at_once) {
        const int64_t count = std::min(plan.at_once, plan.images - first);
        for (int64_t i = 0; i < count; ++i) {
            std::optional<Affine> affine;
            if (plan.groups > 0) measure(plan, first + i, stats);
            if (plan.groups > 0) affine.emplace(plan, stats, scale, shift, first + i);
            read_input(plan, affine ? &*affine : nullptr, first + i, padded);
            kernels::transform_input(padded, plan.shape, in, i * tiles);
        }
        kernels::multiply_out(in, count, plan.shape, packed.data_ptr<float>(), plan.out,
                              bias.defined() ? bias.data_ptr<float>() : nullptr,
                              added.defined() ? added.data_ptr<float>() + first * size : nullptr,
                              y.data_ptr<float>() + first * size);
    }
    return y;
}

struct Gradients {
    Tensor x, skip, scale, shift, weight, bias;
};

/// From the gradient of what a convolution reads of a source as it is, or doubled in size, that of the source.
void plain_gradient(const Plan& plan, const Source& source, const float* d, float* out) {
    const int64_t width = plan.shape.width, in_width = plan.upsample ? width / 2 : width;
    if (plan.upsample) std::fill_n(out, plan.in_pixels * source.channels, 0.0f);
    for (int64_t p = 0; p < plan.out_pixels; ++p) {
        const int64_t y = p / width, x = p % width;
        float* to = out + (plan.upsample ? y / 2 * in_width + x / 2 : p) * source.channels;
        const float* from = d + p * plan.padded_in + source.first;
        for (int64_t c = 0; c < source.channels; ++c) to[c] = plan.upsample ? to[c] + from[c] : from[c];
    }
}

/// Sums over the pixels of an image, for each channel: of the gradient d of scale xhat + shift, and of d x.
struct ChannelSums {
    std::vector<float> d, with_x;
};

/// The gradient of x is p d - q x - r, for each channel (`affine_backward`).
struct NormBackward {
    std::vector<float> p, q, r;
};

/// Through the normalisation of one image, xhat = (x - mean) inverse; the gradients of its scale and shift too.
NormBackward norm_backward(const Plan& plan, const Statistics& stats, const Tensor& scale, int64_t image,
                           const ChannelSums& sums, Gradients& gradients) {
    const int64_t per_group = plan.in / plan.groups;
    const double n = double(plan.in_pixels * per_group);
    const float* gamma = scale.data_ptr<float>() + (scale.size(0) > 1 ? image * plan.in : 0);
    float* const scale_gradient = gradients.scale.data_ptr<float>() + image * plan.in;
    float* const shift_gradient = gradients.shift.data_ptr<float>() + image * plan.in;
    NormBackward result;
    for (auto* each : {&result.p, &result.q, &result.r}) each->resize(size_t(plan.in));
    for (int64_t g = 0; g < plan.groups; ++g) {
        const double mean = double(stats.mean.data_ptr<float>()[image * plan.groups + g]);
        const double inverse = double(stats.scale.data_ptr<float>()[image * plan.groups + g]);
        double m1 = 0, m2 = 0;  // means over the group of the gradient of xhat, and of it times xhat
        for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
            const double sum = double(sums.d[size_t(c)]);
            const double of_scale = (double(sums.with_x[size_t(c)]) - mean * sum) * inverse;
            scale_gradient[c] = float(of_scale);
            shift_gradient[c] = sums.d[size_t(c)];
            m1 += double(gamma[c]) * sum / n;
            m2 += double(gamma[c]) * of_scale / n;
        }
        for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
            result.p[size_t(c)] = float(inverse * double(gamma[c]));
            result.q[size_t(c)] = float(inverse * inverse * m2);
            result.r[size_t(c)] = float(inverse * m1 - inverse * inverse * mean * m2);
        }
    }
    return result;
}

/// From the gradient of what a convolution reads of an image, [pixels, padded_in], that of its sources. d is used up.
void input_gradient(const Plan& plan, const Affine* affine, const Statistics& stats, const Tensor& scale, int64_t image,
                    float* d, Gradients& gradients) {
    const std::vector<Tensor*> results = {&gradients.x, &gradients.skip};
    const auto offset = [&](const Source& source) { return image * plan.in_pixels * source.channels; };
    const auto out = [&](size_t s) { return results[s]->data_ptr<float>() + offset(plan.sources[s]); };
    ChannelSums sums{std::vector<float>(size_t(plan.in)), std::vector<float>(size_t(plan.in))};
    for (size_t s = 0; s < plan.sources.size(); ++s) {
        const Source& source = plan.sources[s];
        if (!affine) {
            plain_gradient(plan, source, d, out(s));
            continue;
        }
        std::vector<float> both(size_t(2 * source.channels));
        kernels::silu_backward(source.data + offset(source), plan.in_pixels, source.channels,
                               affine->a.data() + source.first, affine->b.data() + source.first, d + source.first,
                               plan.padded_in, both.data());
        std::copy_n(both.begin(), source.channels, sums.d.begin() + source.first);
        std::copy_n(both.begin() + source.channels, source.channels, sums.with_x.begin() + source.first);
    }
    if (!affine) return;
    const auto [p, q, r] = norm_backward(plan, stats, scale, image, sums, gradients);
    for (size_t s = 0; s < plan.sources.size(); ++s) {
        const Source& source = plan.sources[s];
        kernels::affine_backward(source.data + offset(source), plan.in_pixels, source.channels, d + source.first,
                                 plan.padded_in, p.data() + source.first, q.data() + source.first,
                                 r.data() + source.first, out(s));
    }
}

/// Room for the gradients of `plan`; those of the weights come at the end.
Gradients empty_gradients(const Plan& plan, bool want_input) {
    Gradients gradients;
    if (want_input) {
        for (size_t s = 0; s < plan.sources.size(); ++s) {
            (s == 0 ? gradients.x : gradients.skip) = torch::empty_like(plan.maps[s]).permute({0, 3, 1, 2});
        }
    }
    if (plan.groups > 0) {
        gradients.scale = torch::empty({plan.images, plan.in});
        gradients.shift = torch::empty({plan.images, plan.in});
    }
    return gradients;
}

/// What a group of images needs on its way back, laid out in the workspace.
struct BackwardSpace {
    explicit BackwardSpace(const Plan& plan) : dy_channels(round_up(plan.out, kernels::kChannels)) {
        const int64_t pixels = plan.shape.padded_pixels();
        const int64_t products_size = kernels::kPoints * plan.padded_in * plan.padded_out;
        const int64_t packed_size = kernels::kPoints * round_up(plan.in, kernels::kPanel) * dy_channels;
        const int64_t d_size = plan.at_once * plan.out_pixels * plan.padded_in;
        workspace.reserve(pixels * (plan.padded_in + dy_channels) + plan.tiles_size(plan.padded_in) +
                          plan.tiles_size(plan.padded_out) + plan.tiles_size(dy_channels) + d_size + products_size +
                          packed_size + 256);
        padded = workspace.take(pixels * plan.padded_in);
        padded_dy = workspace.take(pixels * dy_channels);
        products = workspace.take(products_size);
        packed = workspace.take(packed_size);
        d = workspace.take(d_size);
        in = plan.take_tiles(plan.padded_in);
        of_dy = plan.take_tiles(plan.padded_out);
        dy_in = plan.take_tiles(dy_channels);
        std::fill_n(products, products_size, 0.0f);
    }

    int64_t dy_channels;
    float *padded, *padded_dy;        ///< an image as the convolution reads it, and the gradient of its result
    float *products, *packed;         ///< of the weights' gradient, summed up; the weights for the input's gradient
    float* d;                         ///< gradient of what the convolution reads
    kernels::Tiles in, of_dy, dy_in;  ///< tiles of `padded`; of `padded_dy` as gradients, and as an input
};

Gradients backward(const Plan& plan, const Statistics& stats, const Tensor& scale, const Tensor& shift,
                   const Tensor& weight, const Tensor& output_gradient, bool want_input, bool want_weight) {
    const auto dy = nhwc(output_gradient);
    Gradients gradients = empty_gradients(plan, want_input);
    const BackwardSpace space(plan);
    const int64_t tiles = plan.shape.tiles();
    std::vector<float> sums(size_t(3 * space.dy_channels));
    auto of_bias = torch::zeros({space.dy_channels}, torch::kFloat64);
    if (want_input) kernels::transform_weights(nhwc(weight).data_ptr<float>(), plan.out, plan.in, true, space.packed);

    for (int64_t first = 0; first < plan.images; first += plan.at_once) {
        const int64_t count = std::min(plan.at_once, plan.images - first);
        std::vector<Affine> affines;
        for (int64_t i = 0; i < count; ++i) {
            if (plan.groups > 0) affines.emplace_back(plan, stats, scale, shift, first + i);
            kernels::pad(dy.data_ptr<float>() + (first + i) * plan.out_pixels * plan.out, plan.out, nullptr, nullptr,
                         false, plan.shape, space.padded_dy, 0, space.dy_channels);
            if (want_input) kernels::transform_input(space.padded_dy, plan.shape, space.dy_in, i * tiles);
            if (!want_weight) continue;
            read_input(plan, plan.groups > 0 ? &affines.back() : nullptr, first + i, space.padded);
            kernels::transform_input(space.padded, plan.shape, space.in, i * tiles);
            kernels::transform_gradient(space.padded_dy, space.dy_channels, plan.shape, space.of_dy, i * tiles);
            // Of deviations from the border's 0.
            kernels::channel_sums(space.padded_dy, plan.shape.padded_pixels(), space.dy_channels, sums.data());
            for (int64_t c = 0; c < plan.out; ++c)
                of_bias.data_ptr<double>()[c] += double(sums[size_t(space.dy_channels + c)]);
        }
        if (want_weight)
            kernels::multiply_transposed(space.in, count * tiles, space.of_dy, kernels::kPoints, space.products);
        if (!want_input) continue;
        kernels::multiply_out(space.dy_in, count, plan.shape, space.packed, plan.padded_in, nullptr, nullptr, space.d);
        for (int64_t i = 0; i < count; ++i) {
            input_gradient(plan, plan.groups > 0 ? &affines[size_t(i)] : nullptr, stats, scale, first + i,
                           space.d + i * plan.out_pixels * plan.padded_in, gradients);
        }
    }
    if (!want_weight) return gradients;
    gradients.weight = torch::empty({plan.out, 3, 3, plan.in}, weight.options().requires_grad(false));
    kernels::gradient_of_weights(space.products, plan.out, plan.in, gradients.weight.data_ptr<float>());
    gradients.weight = gradients.weight.permute({0, 3, 1, 2});
    gradients.bias = of_bias.narrow(0, 0, plan.out).to(torch::kFloat32);
    return gradients;
}

/// Gradients of something that was broadcast over the images.
Tensor reduced(const Tensor& gradient, const Tensor& like) {
    return like.size(0) == gradient.size(0) ? gradient : gradient.sum(0, /*keepdim=*/true);
}

struct Conv3x3 : torch::autograd::Function<Conv3x3> {
    static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const Tensor& maybe_skip,
                          int64_t groups, const Tensor& scale, const Tensor& shift, bool upsample, const Tensor& weight,
                          const Tensor& bias, const Tensor& maybe_residual, const Tensor& maybe_packed) {
        const auto skip = or_undefined(maybe_skip), residual = or_undefined(maybe_residual),
                   packed = or_undefined(maybe_packed);
        const Plan plan(x, skip, groups, upsample, weight);
        const auto s = groups > 0 ? scale.contiguous() : Tensor(), t = groups > 0 ? shift.contiguous() : Tensor();
        const Statistics stats{torch::empty({plan.images, groups}), torch::empty({plan.images, groups})};
        context->saved_data["groups"] = groups;
        context->saved_data["upsample"] = upsample;
        context->saved_data["residual"] = residual.defined();
        context->save_for_backward({x, skip, s, t, weight, stats.mean, stats.scale});
        return diffuse::forward(plan, stats, s, t, packed.defined() ? packed : packed_weights(weight), bias, residual);
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   torch::autograd::variable_list output_gradients) {
        refuse_second_derivative();
        const auto saved = context->get_saved_variables();
        const auto &x = saved[0], &skip = saved[1], &scale = saved[2], &shift = saved[3], &weight = saved[4];
        const int64_t groups = context->saved_data["groups"].toInt();
        const bool want_input = groups > 0 || x.requires_grad() || (skip.defined() && skip.requires_grad());
        const Plan plan(x, skip, groups, context->saved_data["upsample"].toBool(), weight);
        auto g = diffuse::backward(plan, {saved[5], saved[6]}, scale, shift, weight, output_gradients[0], want_input,
                                   /*want_weight=*/weight.requires_grad());
        if (groups > 0) g.scale = reduced(g.scale, scale), g.shift = reduced(g.shift, shift);
        return {g.x,      g.skip,  {},
                g.scale,  g.shift, {},
                g.weight, g.bias,  context->saved_data["residual"].toBool() ? output_gradients[0] : Tensor(),
                {}};
    }
};

}  // namespace

Tensor packed_weights(const Tensor& weight) {
    TORCH_CHECK(weight.is_cpu(), "only weights on a CPU can be packed");
    const int64_t out = weight.size(0), in = weight.size(1);
    auto packed = torch::empty({round_up(out, kernels::kPanel), kernels::kPoints, round_up(in, kernels::kChannels)},
                               weight.options().requires_grad(false));
    kernels::transform_weights(nhwc(weight.detach()).data_ptr<float>(), out, in, false, packed.data_ptr<float>());
    return packed;
}

Tensor conv3x3(const ConvInput& input, const Tensor& weight, const Tensor& bias, const Tensor& residual,
               const Tensor& packed) {
    const auto whole = [](int64_t channels) { return channels % kernels::kChannels == 0; };
    const bool tuned = input.x.is_cpu() && weight.is_cpu() && input.x.scalar_type() == torch::kFloat32 &&
                       (!input.skip.defined() || (whole(input.x.size(1)) && whole(input.skip.size(1)))) &&
                       (input.groups == 0 || (whole(weight.size(1)) && !input.upsample));
    if (!tuned) return conv3x3_reference(input, weight, bias, residual);
    return Conv3x3::apply(input.x, or_empty(input.skip), input.groups, or_empty(input.scale), or_empty(input.shift),
                          input.upsample, weight, bias, or_empty(residual), or_empty(packed));
}

}  // namespace diffuse
