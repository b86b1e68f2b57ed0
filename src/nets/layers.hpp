#pragma once

#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include "diffuse/nets/net.hpp"
#include "diffuse/ops/conv3x3.hpp"
#include "nets/program.hpp"

/// What the networks are made of.
namespace diffuse {
namespace nn = torch::nn;

/// What a kind of network is: layers, and the way of an input through them.
struct Net::Modules : nn::Module {
    explicit Modules(torch::Device device) : generator(at::globalContext().defaultGenerator(device).clone()) {}
    /// packs: of `program`, or null.
    virtual torch::Tensor forward(const NetworkInput& input, const std::shared_ptr<const Packs>& packs) = 0;
    virtual bool is_matrix(const std::string& name, const torch::Tensor& weight) const = 0;
    virtual int64_t part_size() const = 0;
    at::Generator generator;           ///< of dropout
    std::shared_ptr<Program> program;  ///< the same way on plain memory, where there is one
};

/// Draws the weights of linear layers and convolutions, uniformly within 1 / sqrt(numbers that one output is a sum of),
/// as LibTorch does: each tensor's a function of (seed, its name), whatever else the network has. Layers that are zero
/// stay so.
void draw_weights(nn::Module& network, uint64_t seed);

/// A network of such modules with random initial weights.
template <class Kind, class... Arguments>
std::shared_ptr<Kind> new_modules(uint64_t seed, torch::Device device, const Arguments&... arguments) {
    const auto modules = std::make_shared<Kind>(arguments..., device);
    draw_weights(*modules, seed);
    modules->to(device);
    return modules;
}

/// At least 8 channels a group, at most 32 groups.
nn::GroupNorm group_norm(int64_t channels);

/// A convolution that keeps the size of the feature map, divided by its stride.
nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1);

/// A layer that gives zero until it is trained.
template <class Layer>
Layer zero(Layer layer) {
    const torch::NoGradGuard no_grad;
    layer->weight.zero_();
    layer->bias.zero_();
    return layer;
}

/// A row for each label, and a last one for none; it says nothing yet.
nn::Embedding label_table(int64_t classes, int64_t size);

/// The rows of the labels, [N, size], or of none for all, [1, size].
torch::Tensor rows_of(nn::Embedding& table, const torch::Tensor& classes);

/// Dropout whose masks come from a generator of the network's own, so that networks on different threads do not draw
/// from one another's.
struct Dropout {
    double probability;
    at::Generator generator;
    torch::Tensor operator()(const torch::Tensor& x);
};

/// A 3x3 convolution of stride 1 that may read its input normalised (conv3x3.hpp).
struct Conv3x3Impl : nn::Conv2dImpl {
    Conv3x3Impl(int64_t in, int64_t out);
    torch::Tensor forward(const ConvInput& input, const torch::Tensor& residual = {}) const;
};
TORCH_MODULE(Conv3x3);

/// What a convolution reads: x, and behind its channels those of a skip connection if there is one, normalised.
ConvInput normalised(const nn::GroupNorm& norm, const torch::Tensor& x, const torch::Tensor& skip = {});

/// SiLU(GroupNorm) -> 3x3 conv -> GroupNorm, scaled and shifted by the time (FiLM; Dhariwal & Nichol 2021,
/// arXiv:2105.05233, section 3, "AdaGN") -> SiLU -> dropout -> 3x3 conv, added to the input.
struct ResBlockImpl : nn::Module {
    ResBlockImpl(int64_t in, int64_t out, int64_t embedding, const Dropout& drop);

    /// x and skip: [N, in, H, W] together; embedding: [N or 1, embedding] -> [N, out, H, W]
    torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& skip, const torch::Tensor& embedding);

    nn::GroupNorm norm1;
    Conv3x3 conv1;
    nn::Linear film;
    nn::GroupNorm norm2;
    Dropout dropout;
    Conv3x3 conv2;
    nn::Conv2d shortcut{nullptr};
};
TORCH_MODULE(ResBlock);

/// Self-attention over the pixels of a feature map (Vaswani et al. 2017), heads of 32 channels, added to the input.
struct AttentionImpl : nn::Module {
    explicit AttentionImpl(int64_t channels);

    /// [N, C, H, W] -> the same
    torch::Tensor forward(const torch::Tensor& x);

    int64_t heads;
    nn::GroupNorm norm;
    nn::Conv2d qkv, proj;
};
TORCH_MODULE(Attention);

}  // namespace diffuse
