#include <algorithm>

#include "diffuse/ops/plain.hpp"
#include "ops/group_norm.hpp"
#include "ops/simd/kernels.hpp"
#include "ops/workspace.hpp"

namespace diffuse {
namespace {

using kernels::round_up;

// Tiles worked on at once: so many rows keep the products busy, and what they need stays in the L2 or L3 cache.
constexpr int64_t kTilesAtOnce = 48;

/// What follows from the sizes of a convolution.
struct Plan {
    explicit Plan(const Conv3x3Sizes& s)
        : sizes(s),
          shape{s.height, s.width},
          groups{s.groups, s.in()},
          in_pixels((s.height * s.width) >> (s.upsample ? 2 : 0)),
          out_pixels(s.height * s.width),
          padded_in(round_up(s.in(), kernels::kChannels)),
          dy_channels(round_up(s.out, kernels::kChannels)),
          at_once(std::max<int64_t>(1, kTilesAtOnce / shape.tiles())),
          tiles(at_once * shape.tiles()) {}

    kernels::Tiles take_tiles(int64_t channels) const {
        const int64_t stride = tile_stride(channels);
        return {workspace().take(kernels::kPoints * stride), channels, stride};
    }
    int64_t tile_stride(int64_t channels) const { return tiles * channels + 16; }
    int64_t tiles_size(int64_t channels) const { return kernels::kPoints * tile_stride(channels) + 16; }
    /// Of the weights' gradient, at one point: [out, in rounded up].
    int64_t products_row() const { return round_up(sizes.in(), kernels::kPanel); }
    int64_t products_size() const { return sizes.out * products_row(); }
    /// Room for `count` arrays of one number a channel.
    int64_t channels_size(int64_t count) const { return count * round_up(padded_in, 16); }

    Sources sources(const Conv3x3Input& input, int64_t image) const {
        return {{{input.x + image * in_pixels * sizes.x, sizes.x, 0},
                 {input.skip + image * in_pixels * sizes.skip, sizes.skip, sizes.x}},
                sizes.skip > 0 ? 2 : 1,
                in_pixels};
    }

    Conv3x3Sizes sizes;
    kernels::Shape shape;
    Groups groups;
    int64_t in_pixels, out_pixels, padded_in, dy_channels, at_once, tiles;
};

/// The normalisation of an image with its scale and shift, a x + b; none: null.
struct Affine {
    float *a = nullptr, *b = nullptr;
};

Affine affine(const Plan& plan, const Conv3x3Input& input, int64_t image, Affine room) {
    const int64_t row = image * input.stride, g = image * plan.groups.count;
    affine_of(plan.groups, input.mean + g, input.inverse + g, input.scale + row, input.shift + row, room.a, room.b);
    return room;
}

/// What the convolution reads of an image, padded, and the slope of SiLU where that is asked for.
void read_input(const Plan& plan, const Sources& sources, const Affine& affine, float* padded, float* slope = nullptr) {
    for (const auto& source : sources) {
        kernels::pad(source.data, source.channels, affine.a ? affine.a + source.first : nullptr,
                     affine.b ? affine.b + source.first : nullptr, plan.sizes.upsample, plan.shape, padded, slope,
                     source.first, plan.padded_in);
    }
}

/// From the gradient of what a convolution reads of a source as it is, or doubled in size, that of the source.
void plain_gradient(const Plan& plan, const Sources::Source& source, const float* d, Into into) {
    const bool up = plan.sizes.upsample;
    const int64_t width = plan.shape.width, in_width = up ? width / 2 : width;
    if (!into.add) std::fill_n(into.to, plan.in_pixels * source.channels, 0.0f);
    for (int64_t p = 0; p < plan.out_pixels; ++p) {
        const int64_t y = p / width, x = p % width;
        float* const to = into.to + (up ? y / 2 * in_width + x / 2 : p) * source.channels;
        const float* const from = d + p * plan.padded_in + source.first;
        for (int64_t c = 0; c < source.channels; ++c) to[c] += from[c];
    }
}

/// What a group of images needs on its way back, laid out in the workspace.
struct BackwardSpace {
    explicit BackwardSpace(const Plan& plan) {
        const int64_t pixels = plan.shape.padded_pixels();
        const int64_t products_size = kernels::kPoints * plan.products_size();
        const int64_t d_size = plan.at_once * plan.out_pixels * plan.padded_in;
        workspace().reserve(pixels * (plan.padded_in + plan.dy_channels) + plan.tiles_size(plan.padded_in) +
                            2 * plan.tiles_size(plan.dy_channels) + 2 * d_size + products_size + plan.channels_size(9) +
                            3 * plan.dy_channels + 256);
        padded = workspace().take(pixels * plan.padded_in);
        padded_dy = workspace().take(pixels * plan.dy_channels);
        products = workspace().take(products_size);
        d = workspace().take(d_size);
        slope = workspace().take(d_size);
        in = plan.take_tiles(plan.padded_in);
        of_dy = plan.take_tiles(plan.dy_channels);
        dy_in = plan.take_tiles(plan.dy_channels);
        affine = {workspace().take(plan.padded_in), workspace().take(plan.padded_in)};
        sums = workspace().take(plan.channels_size(4));
        for (auto* each : {&p, &q, &r}) *each = workspace().take(plan.padded_in);
        dy_sums = workspace().take(3 * plan.dy_channels);
    }

    float *padded, *padded_dy;        ///< an image as the convolution reads it, and the gradient of its result
    float* products;                  ///< of the weights' gradient, summed up
    float *d, *slope;                 ///< gradient of what the convolution reads, and SiLU's slope there
    kernels::Tiles in, of_dy, dy_in;  ///< tiles of `padded`; of `padded_dy` as gradients, and as an input
    Affine affine;
    float *sums, *p, *q, *r, *dy_sums;  ///< of numbers for each channel
};

/// From the gradient d of what a convolution reads of an image, [pixels, padded_in], that of its sources, scale and
/// shift. d is used up.
void input_gradient(const Plan& plan, const Conv3x3Input& input, const BackwardSpace& space, int64_t image, float* d,
                    const float* slope, const Conv3x3Gradients& gradients) {
    const Sources sources = plan.sources(input, image);
    const auto into = [&](const Sources::Source& source) {
        const Into all = source.first == 0 ? gradients.x : gradients.skip;
        return Into{all.to ? all.to + image * plan.in_pixels * source.channels : nullptr, all.add};
    };
    if (plan.sizes.groups == 0) {
        for (const auto& source : sources) plain_gradient(plan, source, d, into(source));
        return;
    }
    const int64_t in = plan.sizes.in(), g = image * plan.groups.count;
    float *const of_d = space.sums, *const of_dx = space.sums + in;
    for (const auto& source : sources) {
        float* const both = space.sums + 2 * in;
        kernels::scaled_sums(source.data, plan.in_pixels, source.channels, slope + source.first, d + source.first,
                             plan.padded_in, both);
        std::copy_n(both, source.channels, of_d + source.first);
        std::copy_n(both + source.channels, source.channels, of_dx + source.first);
    }
    norm_gradients(plan.groups, plan.in_pixels, input.mean + g, input.inverse + g, input.scale + image * input.stride,
                   of_d, of_dx,
                   {gradients.scale + image * in, gradients.shift + image * in, space.p, space.q, space.r});
    for (const auto& source : sources) {
        const auto [to, add] = into(source);
        if (!to) continue;
        kernels::affine_backward(source.data, plan.in_pixels, source.channels, d + source.first, plan.padded_in,
                                 space.p + source.first, space.q + source.first, space.r + source.first, add, to);
    }
}

/// The tiles of an image and of the gradient of its result, for the weights' gradient, and the bias's.
void gather_for_weights(const Plan& plan, const BackwardSpace& space, int64_t first_tile, float* bias) {
    kernels::transform_input(space.padded, plan.shape, space.in, first_tile);
    kernels::transform_gradient(space.padded_dy, plan.dy_channels, plan.shape, space.of_dy, first_tile);
    if (!bias) return;
    // Of deviations from the border's 0.
    kernels::channel_sums(space.padded_dy, plan.shape.padded_pixels(), plan.dy_channels, space.dy_sums);
    for (int64_t c = 0; c < plan.sizes.out; ++c) bias[c] += space.dy_sums[plan.dy_channels + c];
}

/// The products of the gradients' tiles and the input's, over the tiles. Columns behind the input's channels hold
/// nothing of use.
void multiply_for_weights(const Plan& plan, const BackwardSpace& space, int64_t tiles, bool add) {
    const int64_t row = plan.products_row();
    for (int64_t p = 0; p < kernels::kPoints; ++p) {
        float* const products = space.products + p * plan.products_size();
        kernels::multiply(plan.sizes.out, tiles, {space.of_dy.data + p * space.of_dy.stride, 1, plan.dy_channels},
                          {space.in.data + p * space.in.stride, plan.padded_in, kernels::kPanel}, row,
                          add ? products : nullptr, row, products, row);
    }
}

}  // namespace

int64_t packed_conv3x3_size(int64_t in, int64_t out, bool backward) {
    return kernels::kPoints * (backward ? round_up(in, kernels::kPanel) * round_up(out, kernels::kChannels)
                                        : round_up(out, kernels::kPanel) * round_up(in, kernels::kChannels));
}

void pack_conv3x3(const float* weight, int64_t in, int64_t out, bool backward, float* packed) {
    kernels::transform_weights(weight, out, in, backward, packed);
}

void conv3x3_forward(const Conv3x3Sizes& sizes, const Conv3x3Input& input, const float* packed, const float* bias,
                     const float* residual, float* y) {
    const Plan plan(sizes);
    workspace().reserve(plan.shape.padded_pixels() * plan.padded_in + plan.tiles_size(plan.padded_in) +
                        plan.channels_size(5) + 64);
    float* const padded = workspace().take(plan.shape.padded_pixels() * plan.padded_in);
    const auto in = plan.take_tiles(plan.padded_in);
    float* const sums = workspace().take(3 * plan.padded_in);
    const Affine room{workspace().take(plan.padded_in), workspace().take(plan.padded_in)};
    const int64_t size = plan.out_pixels * sizes.out, tiles = plan.shape.tiles();
    for (int64_t first = 0; first < sizes.images; first += plan.at_once) {
        const int64_t count = std::min(plan.at_once, sizes.images - first);
        for (int64_t i = 0; i < count; ++i) {
            const Sources sources = plan.sources(input, first + i);
            const int64_t g = (first + i) * sizes.groups;
            if (sizes.groups > 0) measure_groups(plan.groups, sources, sums, input.mean + g, input.inverse + g);
            read_input(plan, sources, sizes.groups > 0 ? affine(plan, input, first + i, room) : Affine{}, padded);
            kernels::transform_input(padded, plan.shape, in, i * tiles);
        }
        kernels::multiply_out(in, count, plan.shape, packed, sizes.out, bias,
                              residual ? residual + first * size : nullptr, y + first * size);
    }
}

void conv3x3_backward(const Conv3x3Sizes& sizes, const Conv3x3Input& input, const float* packed, const float* dy,
                      const Conv3x3Gradients& gradients) {
    const Plan plan(sizes);
    const BackwardSpace space(plan);
    const int64_t tiles = plan.shape.tiles(), d_size = plan.out_pixels * plan.padded_in;
    const bool want_input = sizes.groups > 0 || gradients.x.to || gradients.skip.to;
    for (int64_t first = 0; first < sizes.images; first += plan.at_once) {
        const int64_t count = std::min(plan.at_once, sizes.images - first);
        for (int64_t i = 0; i < count; ++i) {
            const Sources sources = plan.sources(input, first + i);
            const Affine own = sizes.groups > 0 ? affine(plan, input, first + i, space.affine) : Affine{};
            if (own.a || gradients.weight) read_input(plan, sources, own, space.padded, space.slope + i * d_size);
            kernels::pad(dy + (first + i) * plan.out_pixels * sizes.out, sizes.out, nullptr, nullptr, false, plan.shape,
                         space.padded_dy, nullptr, 0, plan.dy_channels);
            if (want_input) kernels::transform_input(space.padded_dy, plan.shape, space.dy_in, i * tiles);
            if (gradients.weight) gather_for_weights(plan, space, i * tiles, gradients.bias);
        }
        if (gradients.weight) multiply_for_weights(plan, space, count * tiles, /*add=*/first > 0);
        if (!want_input) continue;
        kernels::multiply_out(space.dy_in, count, plan.shape, packed, plan.padded_in, nullptr, nullptr, space.d);
        for (int64_t i = 0; i < count; ++i) {
            input_gradient(plan, input, space, first + i, space.d + i * d_size, space.slope + i * d_size, gradients);
        }
    }
    if (gradients.weight) {
        kernels::gradient_of_weights(space.products, sizes.out, sizes.in(), gradients.weight);
    }
}

}  // namespace diffuse
