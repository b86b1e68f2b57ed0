#include "nets/recorder.hpp"

#include <algorithm>
#include <cmath>

namespace diffuse {
namespace {

using torch::Tensor;

float* data(const Tensor& x) { return x.data_ptr<float>(); }

void silu_of(const float* x, int64_t count, float* y) {
    for (int64_t i = 0; i < count; ++i) y[i] = x[i] / (1 + std::exp(-x[i]));
}

/// From the gradient of silu(x), that of x, in place.
void silu_gradient(const float* x, int64_t count, float* d) {
    for (int64_t i = 0; i < count; ++i) {
        const float s = 1 / (1 + std::exp(-x[i]));
        d[i] *= s * (1 + x[i] * (1 - s));
    }
}

/// As `time_embedding` (unet.hpp).
void embed_time(float time, int64_t size, float* to) {
    const int64_t half = size / 2;
    for (int64_t k = 0; k < half; ++k) {
        const float angle = time * std::exp(float(k) * float(-std::log(10000.0) / double(half)));
        to[k] = std::cos(angle);
        to[half + k] = std::sin(angle);
    }
}

void add_to(float* to, const float* from, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

/// The gradient of something that passes on unchanged.
void pass_on(Run& run, Value from, Value to) {
    const auto [into, add] = run.into(to);
    if (!into) return;
    const float* const d = run.gradient(from);
    const int64_t count = run.images() * from.size;
    add ? add_to(into, d, count) : void(std::copy_n(d, count, into));
}

/// The row of a label in its table, the last one of none.
int64_t row_of(const Run& run, int64_t image, const Tensor& table) {
    const int64_t label = run.class_of(image);
    return (label < 0 ? table.size(0) - 1 : label) * table.size(1);
}

}  // namespace

Recorder::Map Recorder::new_map(int64_t channels, int64_t height, int64_t width) {
    return {program_.value(channels * height * width), channels, height, width};
}

Recorder::Map Recorder::input(int64_t channels, int64_t height, int64_t width) {
    return new_map(channels, height, width);
}

Recorder::Dense Recorder::dense(const Tensor& weight, const Tensor& bias) {
    const int64_t out = weight.size(0), in = weight.numel() / out;
    const auto pack = [=](bool backward, float* packed) { pack_dense(data(weight), in, out, backward, packed); };
    return {weight, bias, in, out, program_.packed(in * out, in * out, pack)};
}

void Recorder::embed(const nn::Linear& time1, const nn::Linear& time2, const nn::Embedding& label) {
    const Dense first = dense(time1->weight, time1->bias), second = dense(time2->weight, time2->bias);
    const Value features = program_.value(first.in), hidden = program_.value(first.out),
                active = program_.value(first.out), sum = program_.value(second.out);
    embedding_ = program_.value(second.out);
    const Tensor table = label ? label->weight : Tensor();
    const Value result = embedding_;
    program_.record(
        {features, hidden, active, sum, embedding_},
        [=](Run& run) {
            for (int64_t r = 0; r < run.rows(); ++r) embed_time(run.time(r), first.in, run[features] + r * first.in);
            dense_forward({run.rows(), first.in, 0, first.out}, run[features], nullptr, run.packed(first.packed, false),
                          data(first.bias), /*add=*/false, run[hidden]);
            silu_of(run[hidden], run.rows() * first.out, run[active]);
            dense_forward({run.rows(), second.in, 0, second.out}, run[active], nullptr,
                          run.packed(second.packed, false), data(second.bias), /*add=*/false, run[sum]);
            for (int64_t r = 0; r < run.rows() && table.defined(); ++r) {
                add_to(run[sum] + r * second.out, data(table) + row_of(run, r, table), second.out);
            }
            silu_of(run[sum], run.rows() * second.out, run[result]);
        },
        [=](Run& run) {
            if (!run.wants_weights()) return;
            float* const d = run.gradient(result);
            silu_gradient(run[sum], run.rows() * second.out, d);
            float* const of_table = table.defined() ? run.gradient_of(table) : nullptr;
            for (int64_t r = 0; r < run.rows() && of_table; ++r) {
                add_to(of_table + row_of(run, r, table), d + r * second.out, second.out);
            }
            dense_backward({run.rows(), second.in, 0, second.out}, run[active], nullptr,
                           run.packed(second.packed, true), d, {run.gradient(active)}, {},
                           run.gradient_of(second.weight), run.gradient_of(second.bias));
            silu_gradient(run[hidden], run.rows() * first.out, run.gradient(active));
            dense_backward({run.rows(), first.in, 0, first.out}, run[features], nullptr, run.packed(first.packed, true),
                           run.gradient(active), {}, {}, run.gradient_of(first.weight), run.gradient_of(first.bias));
        });
}

/// Scale and shift of each channel as a block's layer makes them of the embedding.
Value Recorder::film(const nn::Linear& layer) {
    const Dense linear = dense(layer->weight, layer->bias);
    const Value from = embedding_, to = program_.value(linear.out);
    program_.record(
        {from, to},
        [=](Run& run) {
            dense_forward({run.rows(), linear.in, 0, linear.out}, run[from], nullptr, run.packed(linear.packed, false),
                          data(linear.bias), /*add=*/false, run[to]);
        },
        [=](Run& run) {
            if (!run.wants_weights()) return;
            dense_backward({run.rows(), linear.in, 0, linear.out}, run[from], nullptr, run.packed(linear.packed, true),
                           run.gradient(to), run.into(from), {}, run.gradient_of(linear.weight),
                           run.gradient_of(linear.bias));
        });
    return to;
}

/// What a convolution reads.
struct Recorder::Read {
    Map x, skip = {};
    nn::GroupNorm norm{nullptr};
    Value film = {};  ///< of each row, numbers s and t with scale (1 + s) and shift (1 + s) + t instead
    bool upsample = false;
};

namespace {

/// Scale and shift of the normalisation in front of a convolution, of each image: they are the layer's own, or those
/// changed by `film`.
struct Modulation {
    nn::GroupNorm norm{nullptr};
    Value film, changed;  ///< changed: of each row, scale and shift

    int64_t channels() const { return norm->options.num_channels(); }
    void forward(Run& run) const {
        if (!film.defined()) return;
        const float *const scale = data(norm->weight), *const shift = data(norm->bias);
        for (int64_t r = 0; r < run.rows(); ++r) {
            const float *const s = run[film] + 2 * r * channels(), *const t = s + channels();
            float* const to = run[changed] + 2 * r * channels();
            for (int64_t c = 0; c < channels(); ++c) {
                to[c] = scale[c] * (1 + s[c]);
                to[channels() + c] = shift[c] * (1 + s[c]) + t[c];
            }
        }
    }
    void place(Run& run, Conv3x3Input& input) const {
        if (!norm) return;
        input.scale = film.defined() ? run[changed] : data(norm->weight);
        input.shift = film.defined() ? run[changed] + channels() : data(norm->bias);
        input.stride = film.defined() && run.rows() > 1 ? 2 * channels() : 0;
    }
    /// d_scale, d_shift: [images, channels].
    void backward(Run& run, const float* d_scale, const float* d_shift) const {
        if (!norm || !run.wants_weights()) return;
        float *const of_scale = run.gradient_of(norm->weight), *const of_shift = run.gradient_of(norm->bias);
        const float *const scale = data(norm->weight), *const shift = data(norm->bias);
        if (film.defined() && !run.into(film).add) std::fill_n(run.gradient(film), run.rows() * film.size, 0.0f);
        for (int64_t i = 0; i < run.images(); ++i, d_scale += channels(), d_shift += channels()) {
            const int64_t row = film.defined() && run.rows() > 1 ? 2 * i * channels() : 0;
            const float* const s = film.defined() ? run[film] + row : nullptr;
            for (int64_t c = 0; c < channels(); ++c) {
                const float factor = s ? 1 + s[c] : 1;
                if (of_scale) of_scale[c] += factor * d_scale[c];
                if (of_shift) of_shift[c] += factor * d_shift[c];
            }
            if (!s) continue;
            float *const ds = run.gradient(film) + row, *const dt = ds + channels();
            for (int64_t c = 0; c < channels(); ++c) {
                ds[c] += scale[c] * d_scale[c] + shift[c] * d_shift[c];
                dt[c] += d_shift[c];
            }
        }
    }
};

}  // namespace

Recorder::Map Recorder::convolve(const Read& read, const Conv3x3& layer, const Map& residual) {
    const auto [x, skip, norm, film, upsample] = read;
    const int64_t in = x.channels + skip.channels, out = layer->weight.size(0),
                  groups = norm ? norm->options.num_groups() : 0;
    const Map y = new_map(out, x.height << int(upsample), x.width << int(upsample));
    const Value mean = program_.value(groups), inverse = program_.value(groups);
    const Modulation modulation{norm, film, program_.value(film.defined() ? 2 * in : 0)};
    const Tensor weight = layer->weight, bias = layer->bias;
    const int64_t packed =
        program_.packed(packed_conv3x3_size(in, out, false), packed_conv3x3_size(in, out, true),
                        [=](bool backward, float* to) { pack_conv3x3(data(weight), in, out, backward, to); });
    const auto sizes = [=, up = upsample, x = x, skip = skip](const Run& run) {
        return Conv3x3Sizes{run.images(), y.height, y.width, x.channels, skip.channels, out, groups, up};
    };
    const auto input = [=, x = x, skip = skip](Run& run) {
        Conv3x3Input result{
            run[x.value], skip.value.defined() ? run[skip.value] : nullptr, nullptr, nullptr, 0, run[mean],
            run[inverse]};
        modulation.place(run, result);
        return result;
    };
    program_.record(
        {x.value, skip.value, film, y.value, mean, inverse, modulation.changed, residual.value},
        [=](Run& run) {
            modulation.forward(run);
            conv3x3_forward(sizes(run), input(run), run.packed(packed, false), data(bias),
                            residual.value.defined() ? run[residual.value] : nullptr, run[y.value]);
        },
        [=, x = x, skip = skip](Run& run) {
            float *const d_scale = run.scratch(2 * run.images() * in), *const d_shift = d_scale + run.images() * in;
            conv3x3_backward(sizes(run), input(run), run.packed(packed, true), run.gradient(y.value),
                             {run.into(x.value), run.into(skip.value), d_scale, d_shift, run.gradient_of(weight),
                              run.gradient_of(bias)});
            modulation.backward(run, d_scale, d_shift);
            if (residual.value.defined()) pass_on(run, y.value, residual.value);
        });
    return y;
}

Recorder::Map Recorder::convolved(const Conv3x3& layer, const Map& x, bool upsample) {
    return convolve({.x = x, .upsample = upsample}, layer, {});
}

Recorder::Map Recorder::convolved(const nn::GroupNorm& norm, const Conv3x3& layer, const Map& x) {
    return convolve({.x = x, .norm = norm}, layer, {});
}

Recorder::Map Recorder::block(const ResBlock& layer, const Map& x, const Map& skip) {
    const Map h = convolve({.x = x, .skip = skip, .norm = layer->norm1}, layer->conv1, {});
    const Read modulated{.x = h, .norm = layer->norm2, .film = film(layer->film)};
    const Map y = convolve(modulated, layer->conv2, layer->shortcut ? Map{} : x);
    if (layer->shortcut) add_shortcut(layer->shortcut, x, skip, y);
    return y;
}

/// y += the 1x1 convolution of x and skip.
void Recorder::add_shortcut(const nn::Conv2d& layer, const Map& x, const Map& skip, const Map& y) {
    const Dense linear = dense(layer->weight, layer->bias);
    const auto sizes = [=](const Run& run) {
        return DenseSizes{run.images() * y.pixels(), x.channels, skip.channels, y.channels};
    };
    const auto of_skip = [=](Run& run) { return skip.value.defined() ? run[skip.value] : nullptr; };
    program_.record(
        {x.value, skip.value, y.value},
        [=](Run& run) {
            dense_forward(sizes(run), run[x.value], of_skip(run), run.packed(linear.packed, false), data(linear.bias),
                          /*add=*/true, run[y.value]);
        },
        [=](Run& run) {
            dense_backward(sizes(run), run[x.value], of_skip(run), run.packed(linear.packed, true),
                           run.gradient(y.value), run.into(x.value), run.into(skip.value),
                           run.gradient_of(linear.weight), run.gradient_of(linear.bias));
        });
}

Recorder::Map Recorder::halved(const nn::Conv2d& layer, const Map& x) {
    const Dense linear = dense(layer->weight, layer->bias);
    const Map y = new_map(linear.out, x.height / 2, x.width / 2);
    const auto sizes = [=](const Run& run) {
        return HalvingSizes{run.images(), x.height, x.width, x.channels, linear.out};
    };
    program_.record(
        {x.value, y.value},
        [=](Run& run) {
            halving_forward(sizes(run), run[x.value], run.packed(linear.packed, false), data(linear.bias),
                            run[y.value]);
        },
        [=](Run& run) {
            halving_backward(sizes(run), run[x.value], run.packed(linear.packed, true), run.gradient(y.value),
                             run.into(x.value), run.gradient_of(linear.weight), run.gradient_of(linear.bias));
        });
    return y;
}

/// In place: what made x does not need it on its way back.
Recorder::Map Recorder::positioned(const nn::Embedding& layer, const Map& x) {
    const Tensor table = layer->weight;
    const Value value = x.value;
    program_.record(
        {value},
        [=](Run& run) {
            for (int64_t i = 0; i < run.images(); ++i) {
                add_to(run[value] + i * value.size, data(table) + row_of(run, i, table), value.size);
            }
        },
        [=](Run& run) {
            float* const of_table = run.gradient_of(table);
            for (int64_t i = 0; i < run.images() && of_table; ++i) {
                add_to(of_table + row_of(run, i, table), run.gradient(value) + i * value.size, value.size);
            }
        });
    return x;
}

Recorder::Map Recorder::attended(const Attention& layer, const Map& x) {
    const Dense qkv = dense(layer->qkv->weight, layer->qkv->bias), proj = dense(layer->proj->weight, layer->proj->bias);
    const int64_t channels = x.channels, pixels = x.pixels(), groups = layer->norm->options.num_groups();
    const int64_t heads = layer->heads;
    const Map y = new_map(channels, x.height, x.width), xhat = new_map(channels, x.height, x.width),
              mixed = new_map(channels, x.height, x.width), parts = new_map(3 * channels, x.height, x.width);
    const Value mean = program_.value(groups), inverse = program_.value(groups);
    const Tensor scale = layer->norm->weight, shift = layer->norm->bias;
    const auto rows = [=](const Run& run) { return run.images() * pixels; };
    const auto norm = [=](const Run& run) { return NormSizes{run.images(), pixels, channels, groups}; };
    const auto attention = [=](const Run& run) { return AttentionSizes{run.images(), pixels, channels, heads}; };
    program_.record(
        {x.value, y.value, xhat.value, mixed.value, parts.value, mean, inverse},
        [=](Run& run) {
            norm_forward(norm(run), run[x.value], data(scale), data(shift), run[mean], run[inverse], run[xhat.value]);
            dense_forward({rows(run), channels, 0, 3 * channels}, run[xhat.value], nullptr,
                          run.packed(qkv.packed, false), data(qkv.bias), /*add=*/false, run[parts.value]);
            attention_forward(attention(run), run[parts.value], run[mixed.value]);
            std::copy_n(run[x.value], rows(run) * channels, run[y.value]);
            dense_forward({rows(run), channels, 0, channels}, run[mixed.value], nullptr, run.packed(proj.packed, false),
                          data(proj.bias), /*add=*/true, run[y.value]);
        },
        [=](Run& run) {
            dense_backward({rows(run), channels, 0, channels}, run[mixed.value], nullptr, run.packed(proj.packed, true),
                           run.gradient(y.value), {run.gradient(mixed.value)}, {}, run.gradient_of(proj.weight),
                           run.gradient_of(proj.bias));
            attention_backward(attention(run), run[parts.value], run.gradient(mixed.value), run.gradient(parts.value));
            dense_backward({rows(run), channels, 0, 3 * channels}, run[xhat.value], nullptr,
                           run.packed(qkv.packed, true), run.gradient(parts.value), {run.gradient(xhat.value)}, {},
                           run.gradient_of(qkv.weight), run.gradient_of(qkv.bias));
            pass_on(run, y.value, x.value);
            norm_backward(norm(run), run[x.value], data(scale), run[mean], run[inverse], run.gradient(xhat.value),
                          run.into(x.value), run.gradient_of(scale), run.gradient_of(shift));
        });
    return y;
}

}  // namespace diffuse
