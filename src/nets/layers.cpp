#include "nets/layers.hpp"

#include <algorithm>
#include <cmath>

#include "diffuse/base/random.hpp"
#include "diffuse/ops/conv1x1.hpp"

namespace diffuse {

namespace {

constexpr int64_t kHeadChannels = 32;

/// FNV-1a, cut to the 56 bits of an index.
uint64_t hash_of(const std::string& name) {
    uint64_t hash = 0xcbf29ce484222325;
    for (const char c : name) hash = (hash ^ uint8_t(c)) * 0x100000001b3;
    return hash >> 8;
}

void draw(torch::Tensor& weight, double bound, uint64_t seed, const std::string& name) {
    Random random({seed, Purpose::kInitialWeights, hash_of(name)});
    auto drawn = torch::empty(weight.sizes());
    float* const numbers = drawn.data_ptr<float>();
    for (int64_t i = 0; i < drawn.numel(); ++i) numbers[i] = float(random.uniform(-bound, bound));
    weight.copy_(drawn);
}

}  // namespace

void draw_weights(nn::Module& network, uint64_t seed) {
    const torch::NoGradGuard no_grad;
    for (const auto& layer : network.named_modules()) {
        if (!layer.value()->as<nn::LinearImpl>() && !layer.value()->as<nn::Conv2dImpl>()) continue;
        for (auto& parameter : layer.value()->named_parameters(/*recurse=*/false)) {
            const auto weight = layer.value()->named_parameters(false)["weight"];
            if (weight.eq(0).all().item<bool>()) break;
            const double bound = 1 / std::sqrt(double(weight.numel() / weight.size(0)));
            draw(parameter.value(), bound, seed, layer.key() + "." + parameter.key());
        }
    }
}

nn::GroupNorm group_norm(int64_t channels) {
    int64_t groups = std::min<int64_t>(32, channels / 8);
    while (channels % groups != 0) --groups;
    return nn::GroupNorm(groups, channels);
}

nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
    return nn::Conv2d(nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2));
}

nn::Embedding label_table(int64_t classes, int64_t size) {
    nn::Embedding table(classes + 1, size);
    nn::init::zeros_(table->weight);
    return table;
}

torch::Tensor rows_of(nn::Embedding& table, const torch::Tensor& classes) {
    return classes.defined() ? table(classes) : table->weight.slice(0, -1);
}

torch::Tensor Dropout::operator()(const torch::Tensor& x) {
    return x * torch::empty_like(x).bernoulli_(1 - probability, generator) / (1 - probability);
}

Conv3x3Impl::Conv3x3Impl(int64_t in, int64_t out) : nn::Conv2dImpl(nn::Conv2dOptions(in, out, 3).padding(1)) {}

torch::Tensor Conv3x3Impl::forward(const ConvInput& input, const torch::Tensor& residual) const {
    return conv3x3(input, weight, bias, residual);
}

ConvInput normalised(const nn::GroupNorm& norm, const torch::Tensor& x, const torch::Tensor& skip) {
    return {x, skip, norm->options.num_groups(), norm->weight.unsqueeze(0), norm->bias.unsqueeze(0)};
}

ResBlockImpl::ResBlockImpl(int64_t in, int64_t out, int64_t embedding, const Dropout& drop)
    : norm1(register_module("norm1", group_norm(in))),
      conv1(register_module("conv1", Conv3x3(in, out))),
      film(register_module("film", nn::Linear(embedding, 2 * out))),
      norm2(register_module("norm2", group_norm(out))),
      dropout(drop),
      conv2(register_module("conv2", zero(Conv3x3(out, out)))) {
    if (in != out) shortcut = register_module("shortcut", conv(in, out, 1));
}

torch::Tensor ResBlockImpl::forward(const torch::Tensor& x, const torch::Tensor& skip, const torch::Tensor& embedding) {
    const auto h = conv1(normalised(norm1, x, skip));
    const auto scale_shift = film(embedding).chunk(2, 1);
    auto input = normalised(norm2, h);
    input.scale = input.scale * (1 + scale_shift[0]);
    input.shift = torch::addcmul(scale_shift[1], input.shift, 1 + scale_shift[0]);
    if (dropout.probability > 0 && is_training()) input = {dropout(activated(input))};
    return conv2(input, shortcut ? conv1x1(x, skip, shortcut->weight, shortcut->bias) : x);
}

AttentionImpl::AttentionImpl(int64_t channels)
    : heads(std::max<int64_t>(1, channels / kHeadChannels)),
      norm(register_module("norm", group_norm(channels))),
      qkv(register_module("qkv", conv(channels, 3 * channels, 1))),
      proj(register_module("proj", zero(conv(channels, channels, 1)))) {
    while (channels % heads != 0) --heads;
}

torch::Tensor AttentionImpl::forward(const torch::Tensor& x) {
    const int64_t n = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3), d = channels / heads;
    const auto parts = conv1x1(norm(x), {}, qkv->weight, qkv->bias)
                           .reshape({n * heads, 3 * d, height * width})
                           .chunk(3, 1);  // q, k, v: [N heads, d, HW]
    const auto weights = torch::softmax(torch::bmm(parts[0].transpose(1, 2), parts[1]) / std::sqrt(double(d)), -1);
    const auto mixed = torch::bmm(parts[2], weights.transpose(1, 2)).reshape({n, channels, height, width});
    return x + conv1x1(mixed, {}, proj->weight, proj->bias);
}

}  // namespace diffuse
