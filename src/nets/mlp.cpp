#include "diffuse/nets/mlp.hpp"

#include <fmt/format.h>

#include "diffuse/base/error.hpp"
#include "diffuse/nets/unet.hpp"
#include "nets/layers.hpp"

namespace diffuse {
namespace nn = torch::nn;

/// A residual block that is scaled and shifted by the embedding.
struct MlpBlockImpl : nn::Module {
    explicit MlpBlockImpl(int64_t width) {
        first = register_module("first", nn::Linear(width, width));
        second = register_module("second", nn::Linear(width, width));
        film = register_module("film", nn::Linear(width, 2 * width));
    }
    torch::Tensor forward(const torch::Tensor& h, const torch::Tensor& embedding) {
        const auto scale_and_shift = film(embedding).chunk(2, 1);
        const auto hidden = first(torch::silu(h)) * (1 + scale_and_shift[0]) + scale_and_shift[1];
        return h + second(torch::silu(hidden));
    }
    nn::Linear first{nullptr}, second{nullptr}, film{nullptr};
};
TORCH_MODULE(MlpBlock);

Fields fields(MlpOptions& o) {
    return {{.key = "width",
             .value = Number<int64_t>{&o.width, 8, 4096},
             .meaning = "numbers in each hidden layer, an even one (kind mlp)",
             .belongs = {"kind", {"mlp"}}},
            {.key = "blocks",
             .value = Number<int64_t>{&o.blocks, 1, 64},
             .meaning = "residual blocks of two layers (kind mlp)",
             .belongs = {"kind", {"mlp"}}}};
}

struct Mlp::Modules : nn::Module {
    Modules(const MlpOptions& options, int64_t numbers, int64_t classes, int64_t given) : width(options.width) {
        stem = register_module("stem", nn::Linear(numbers, width));
        time1 = register_module("time1", nn::Linear(width, width));
        time2 = register_module("time2", nn::Linear(width, width));
        if (classes > 0) label = register_module("label", label_table(classes, width));
        if (given > 0) {
            given1 = register_module("given1", nn::Linear(given, width));
            given2 = register_module("given2", nn::Linear(width, width));
        }
        for (int64_t i = 0; i < options.blocks; ++i) {
            blocks.push_back(register_module(fmt::format("block{}", i), MlpBlock(width)));
        }
        head = register_module("head", zero(nn::Linear(width, numbers)));
    }

    /// The embedding of the time and the condition, which conditions the blocks: [N or 1, width].
    torch::Tensor embed(const NetworkInput& input) {
        auto sum = time2(torch::silu(time1(time_embedding(input.time, width))));
        if (label) sum = sum + rows_of(label, input.condition.classes);
        if (given1) sum = sum + given2(torch::silu(given1(input.condition.numbers)));
        return torch::silu(sum);
    }

    torch::Tensor forward(const NetworkInput& input) {
        TORCH_INTERNAL_ASSERT(label || given1 || !input.condition.defined(), "this network takes no condition");
        TORCH_INTERNAL_ASSERT(!given1 || input.condition.numbers.defined(), "this network needs numbers");
        const auto embedding = embed(input);
        auto h = stem(input.x.flatten(1));
        for (auto& block : blocks) h = block(h, embedding);
        return head(torch::silu(h)).view_as(input.x);
    }

    const int64_t width;
    nn::Linear stem{nullptr}, time1{nullptr}, time2{nullptr}, given1{nullptr}, given2{nullptr}, head{nullptr};
    nn::Embedding label{nullptr};
    std::vector<MlpBlock> blocks;
};

Mlp::Mlp(const MlpOptions& options, int64_t numbers, int64_t classes, int64_t given, uint64_t seed,
         torch::Device device) {
    if (options.width % 2 != 0) {
        throw Error(fmt::format("config: model.width is {}; expected an even number", options.width));
    }
    torch::manual_seed(seed);  // LibTorch's layers draw their initial weights from its own generator
    modules_ = std::make_shared<Modules>(options, numbers, classes, given);
    modules_->to(device);
}

torch::Tensor Mlp::operator()(const NetworkInput& input) const { return modules_->forward(input); }

NamedTensors Mlp::named_parameters() const {
    NamedTensors result;
    for (const auto& item : modules_->named_parameters()) result.emplace_back(item.key(), item.value());
    return result;
}

std::vector<torch::Tensor> Mlp::parameters() const { return modules_->parameters(); }

bool Mlp::is_matrix(const std::string& name, const torch::Tensor& weight) {
    return weight.dim() == 2 && name.starts_with("block") && name.find(".film.") == std::string::npos;
}

void Mlp::freeze() {
    for (auto& parameter : parameters()) parameter.requires_grad_(false);
}

}  // namespace diffuse
