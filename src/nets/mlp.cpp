#include "diffuse/nets/mlp.hpp"

#include <fmt/format.h>

#include "diffuse/base/error.hpp"
#include "nets/layers.hpp"

namespace diffuse {

Fields fields(MlpOptions& o) {
    return {{"width", Number<int64_t>{&o.width, 8, 4096}, "numbers in each hidden layer, an even one (kind mlp)"},
            {"blocks", Number<int64_t>{&o.blocks, 1, 64}, "residual blocks of two layers (kind mlp)"}};
}

namespace {

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

struct MlpModules : Net::Modules {
    MlpModules(const MlpOptions& options, int64_t numbers, const ConditionSizes& condition, torch::Device device)
        : Modules(device), width(options.width) {
        stem = register_module("stem", nn::Linear(numbers, width));
        time1 = register_module("time1", nn::Linear(width, width));
        time2 = register_module("time2", nn::Linear(width, width));
        if (condition.classes > 0) label = register_module("label", label_table(condition.classes, width));
        if (condition.numbers > 0) {
            given1 = register_module("given1", nn::Linear(condition.numbers, width));
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

    torch::Tensor forward(const NetworkInput& input, const std::shared_ptr<const Packs>&) override {
        TORCH_INTERNAL_ASSERT(label || given1 || !input.condition.defined(), "this network takes no condition");
        TORCH_INTERNAL_ASSERT(!given1 || input.condition.numbers.defined(), "this network needs numbers");
        const auto embedding = embed(input);
        auto h = stem(input.x.flatten(1));
        for (auto& block : blocks) h = block(h, embedding);
        return head(torch::silu(h)).view_as(input.x);
    }

    int64_t part_size() const override { return 128; }
    bool is_matrix(const std::string& name, const torch::Tensor& weight) const override {
        return weight.dim() == 2 && name.starts_with("block") && name.find(".film.") == std::string::npos;
    }

    const int64_t width;
    nn::Linear stem{nullptr}, time1{nullptr}, time2{nullptr}, given1{nullptr}, given2{nullptr}, head{nullptr};
    nn::Embedding label{nullptr};
    std::vector<MlpBlock> blocks;
};

}  // namespace

Net make_mlp(const MlpOptions& options, int64_t numbers, const ConditionSizes& condition, uint64_t seed,
             torch::Device device) {
    if (options.width % 2 != 0) {
        throw Error(fmt::format("config: model.width is {}; expected an even number", options.width));
    }
    return Net(new_modules<MlpModules>(seed, device, options, numbers, condition));
}

}  // namespace diffuse
