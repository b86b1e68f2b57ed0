#include "diffuse/nets/unet.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "diffuse/base/error.hpp"
#include "nets/layers.hpp"
#include "nets/recorder.hpp"

namespace diffuse {
namespace {

constexpr int64_t kMaxPositioned = 100;  ///< labels with positions of their own by default: more take much memory
constexpr int64_t kLowest = 0;           ///< among the resolutions of attention: the lowest one, whatever it is

void check(const UNetOptions& options, const ExampleShape& shape) {
    if (options.base_channels % 8 != 0) {
        throw Error(fmt::format("config: model.base_channels is {}; expected a multiple of 8", options.base_channels));
    }
    const int64_t halvings = int64_t(options.channel_multipliers.size()) - 1;
    const int64_t unit = options.patch_size << halvings;
    if (shape.height % unit != 0 || shape.width % unit != 0) {
        const auto nearest = [&](int64_t side) { return std::max<int64_t>(1, (side + unit / 2) / unit) * unit; };
        throw Error(
            fmt::format("config: model.patch_size {} and {} levels need image sides divisible by {}, but the images "
                        "are {}x{}; use fewer model.channel_multipliers, another model.patch_size, or images of {}x{} "
                        "(dataset.size)",
                        options.patch_size, halvings + 1, unit, shape.height, shape.width, nearest(shape.height),
                        nearest(shape.width)));
    }
    const auto heights = level_heights(options, shape);
    for (const int64_t resolution : options.attention_resolutions) {
        if (resolution == kLowest || std::ranges::find(heights, resolution) != heights.end()) continue;
        throw Error(
            fmt::format("config: model.attention_resolutions has {}, but the levels of this network are {} high",
                        resolution, fmt::join(heights, ", ")));
    }
}

/// A residual block, followed by attention at the resolutions that have it.
struct UNetBlock {
    ResBlock residual{nullptr};
    Attention attention{nullptr};
};

/// The layers by LibTorch's tensors and autograd, anywhere; `Recorder` has the same ones on plain memory.
struct TensorOps {
    using Map = torch::Tensor;
    Map embedding;
    Condition condition;

    Map convolved(Conv3x3& layer, const Map& x, bool upsample = false) {
        return layer(ConvInput{.x = x, .upsample = upsample});
    }
    Map convolved(nn::GroupNorm& norm, Conv3x3& layer, const Map& x) { return layer(normalised(norm, x)); }
    Map halved(nn::Conv2d& layer, const Map& x) { return layer(x); }
    /// With the rows of a table that holds features with the channels last.
    Map positioned(nn::Embedding& table, const Map& x) {
        const auto rows = rows_of(table, condition.classes);
        return x + rows.view({-1, x.size(2), x.size(3), x.size(1)}).permute({0, 3, 1, 2});
    }
    Map block(ResBlock& layer, const Map& x, const Map& skip) { return layer(x, skip, embedding); }
    Map attended(Attention& layer, const Map& x) { return layer(x); }
};

struct UNetModules : Net::Modules {
    UNetModules(const UNetOptions& chosen, const ExampleShape& shape, int64_t classes, torch::Device device);
    torch::Tensor forward(const NetworkInput& input, const std::shared_ptr<const Packs>& packs) override;
    int64_t part_size() const override { return 4; }
    bool is_matrix(const std::string& name, const torch::Tensor& weight) const override {
        return weight.dim() == 4 && name != "stem.weight" && name != "head.weight";
    }

private:
    torch::Tensor embed(const NetworkInput& input);
    /// The way of the features through the network, by layers of either kind.
    template <class Ops>
    typename Ops::Map walk(Ops& ops, typename Ops::Map h);
    bool can_record() const;
    void record_program(const ExampleShape& shape);
    void build_positions(const ExampleShape& shape, int64_t classes);
    UNetBlock make_block(const std::string& name, int64_t in, int64_t out, int64_t resolution);
    void build_down(std::vector<int64_t>& skips);
    void build_middle();
    void build_up(std::vector<int64_t>& skips);

    UNetOptions options;
    int64_t channels, resolution;  // of the feature map that the next layer will see, while building
    nn::Linear time1{nullptr}, time2{nullptr};
    Conv3x3 stem{nullptr}, head{nullptr};
    nn::GroupNorm head_norm{nullptr};
    std::vector<std::vector<UNetBlock>> down, up;
    std::vector<nn::Conv2d> downsample;
    std::vector<Conv3x3> upsample;
    std::vector<UNetBlock> middle;
    nn::Embedding label{nullptr};
    std::vector<nn::Embedding> position;  // one for each level
};

UNetModules::UNetModules(const UNetOptions& chosen, const ExampleShape& shape, int64_t classes, torch::Device device)
    : Modules(device), options(chosen), channels(chosen.base_channels), resolution(shape.height / chosen.patch_size) {
    const int64_t lowest = resolution >> (chosen.channel_multipliers.size() - 1);
    std::ranges::replace(options.attention_resolutions, kLowest, lowest);
    const int64_t base = chosen.base_channels, pixels = shape.channels * chosen.patch_size * chosen.patch_size;
    const int64_t inputs = pixels * (1 + 2 * int64_t(chosen.fourier_features.size()));
    time1 = register_module("time1", nn::Linear(base, 4 * base));
    time2 = register_module("time2", nn::Linear(4 * base, 4 * base));
    stem = register_module("stem", Conv3x3(inputs, base));
    std::vector<int64_t> skips = {base};
    build_down(skips);
    build_middle();
    build_up(skips);
    head_norm = register_module("head_norm", group_norm(channels));
    head = register_module("head", zero(Conv3x3(channels, pixels)));
    if (classes > 0) label = register_module("label", label_table(classes, 4 * base));
    if (options.position_embedding.value_or(classes <= kMaxPositioned)) build_positions(shape, classes);
    if (device.is_cpu() && can_record()) record_program(shape);
}

void UNetModules::build_positions(const ExampleShape& shape, int64_t classes) {
    for (size_t level = 0; level < options.channel_multipliers.size(); ++level) {
        const int64_t height = shape.height / options.patch_size >> level;
        const int64_t width = shape.width / options.patch_size >> level;
        const int64_t features = options.base_channels * (level == 0 ? 1 : options.channel_multipliers[level - 1]);
        position.push_back(
            register_module(fmt::format("position{}", level), label_table(classes, height * width * features)));
    }
}

UNetBlock UNetModules::make_block(const std::string& name, int64_t in, int64_t out, int64_t at) {
    UNetBlock block;
    block.residual =
        register_module(name, ResBlock(in, out, 4 * options.base_channels, Dropout{options.dropout, generator}));
    const auto& attended = options.attention_resolutions;
    if (std::find(attended.begin(), attended.end(), at) != attended.end()) {
        block.attention = register_module(name + "_attention", Attention(out));
    }
    return block;
}

/// Every feature map on the way down is a skip connection; `skips` collects their channels.
void UNetModules::build_down(std::vector<int64_t>& skips) {
    const size_t levels = options.channel_multipliers.size();
    for (size_t level = 0; level < levels; ++level) {
        const int64_t width = options.base_channels * options.channel_multipliers[level];
        auto& blocks = down.emplace_back();
        for (int64_t i = 0; i < options.blocks_per_level; ++i) {
            blocks.push_back(make_block(fmt::format("down{}_{}", level, i), channels, width, resolution));
            skips.push_back(channels = width);
        }
        if (level + 1 == levels) break;
        downsample.push_back(
            register_module(fmt::format("downsample{}", level), conv(channels, channels, 3, /*stride=*/2)));
        skips.push_back(channels);
        resolution /= 2;
    }
}

/// Where all of an image is near, so that its shape is decided here, and a block costs least. Attention behind every
/// second block.
void UNetModules::build_middle() {
    constexpr int64_t kNoAttention = 0;
    for (int64_t i = 0; i < options.middle_blocks; ++i) {
        middle.push_back(
            make_block(fmt::format("middle{}", i), channels, channels, i % 2 == 0 ? resolution : kNoAttention));
    }
}

/// Upsampling narrows to the next level's channels, as its convolution is the dearest of all at the higher resolution.
/// One block more than on the way down, as each takes one skip connection and the stem or the downsampling made one
/// too.
void UNetModules::build_up(std::vector<int64_t>& skips) {
    for (size_t level = options.channel_multipliers.size(); level-- > 0;) {
        const int64_t width = options.base_channels * options.channel_multipliers[level];
        auto& blocks = up.emplace_back();
        for (int64_t i = 0; i <= options.blocks_per_level; ++i) {
            blocks.push_back(make_block(fmt::format("up{}_{}", level, i), channels + skips.back(), width, resolution));
            skips.pop_back();
            channels = width;
        }
        if (level == 0) break;
        const int64_t narrower = options.base_channels * options.channel_multipliers[level - 1];
        upsample.push_back(register_module(fmt::format("upsample{}", level), Conv3x3(channels, narrower)));
        channels = narrower;
        resolution *= 2;
    }
}

/// The embedding of the time and the label, which conditions the residual blocks: [N or 1, 4 base_channels].
torch::Tensor UNetModules::embed(const NetworkInput& input) {
    TORCH_INTERNAL_ASSERT(label || !input.condition.defined(), "a network without classes takes no condition");
    const auto time = time2(torch::silu(time1(time_embedding(input.time, options.base_channels))));
    if (!label) return torch::silu(time);
    return torch::silu(time + rows_of(label, input.condition.classes));
}

template <class Ops>
typename Ops::Map UNetModules::walk(Ops& ops, typename Ops::Map h) {
    using Map = typename Ops::Map;
    // A class has its shape in the learned features of each position, which a time's embedding, as it scales and shifts
    // whole channels, could not draw.
    const auto positioned = [&](size_t level, const Map& x) {
        return position.empty() ? x : ops.positioned(position[level], x);
    };
    const auto passed = [&](UNetBlock& block, const Map& x, const Map& skip) {
        const Map y = ops.block(block.residual, x, skip);
        return block.attention ? ops.attended(block.attention, y) : y;
    };
    h = positioned(0, ops.convolved(stem, h));
    std::vector<Map> skips = {h};
    for (size_t level = 0; level < down.size(); ++level) {
        for (auto& block : down[level]) skips.push_back(h = passed(block, h, {}));
        if (level == downsample.size()) break;
        skips.push_back(h = positioned(level + 1, ops.halved(downsample[level], h)));
    }
    for (auto& block : middle) h = passed(block, h, {});
    for (size_t i = 0; i < up.size(); ++i) {
        for (auto& block : up[i]) {
            h = passed(block, h, skips.back());
            skips.pop_back();
        }
        if (i < upsample.size()) h = ops.convolved(upsample[i], h, /*upsample=*/true);
    }
    return ops.convolved(head_norm, head, h);
}

/// Products on plain memory work on 16 channels.
bool UNetModules::can_record() const {
    constexpr int64_t kChannels = 16;
    bool fits = options.base_channels % kChannels == 0;
    for (const auto& module : children()) {
        const auto* const attention = module->as<AttentionImpl>();
        fits = fits && (!attention || attention->proj->options.out_channels() / attention->heads % kChannels == 0);
    }
    return fits;
}

void UNetModules::record_program(const ExampleShape& shape) {
    program = std::make_shared<Program>();
    Recorder recorder(*program);
    const auto x = recorder.input(stem->options.in_channels(), shape.height / options.patch_size,
                                  shape.width / options.patch_size);
    recorder.embed(time1, time2, label);
    program->finish(x.value, walk(recorder, x).value, parameters());
}

torch::Tensor UNetModules::forward(const NetworkInput& input, const std::shared_ptr<const Packs>& packs) {
    const auto seen = torch::pixel_unshuffle(fourier_features(input.x, options.fourier_features), options.patch_size);
    const bool drops = options.dropout > 0 && is_training();
    if (!program || drops || !seen.is_cpu() || seen.scalar_type() != torch::kFloat32) {
        TensorOps ops{embed(input), input.condition};
        return torch::pixel_shuffle(walk(ops, seen), options.patch_size).contiguous();
    }
    const auto last = seen.permute({0, 2, 3, 1}).contiguous();
    const auto y = (*program)({last, input.time, input.condition.classes}, packs);
    const auto map = y.view({last.size(0), last.size(1), last.size(2), -1}).permute({0, 3, 1, 2});
    return torch::pixel_shuffle(map, options.patch_size).contiguous();
}

}  // namespace

std::vector<int64_t> level_heights(const UNetOptions& options, const ExampleShape& shape) {
    std::vector<int64_t> heights;
    for (size_t level = 0; level < options.channel_multipliers.size(); ++level) {
        heights.push_back(shape.height / options.patch_size >> level);
    }
    return heights;
}

Fields fields(UNetOptions& o) {
    return {
        {"base_channels", Number<int64_t>{&o.base_channels, 8, 1024}, "channels at the first level, a multiple of 8"},
        {"channel_multipliers", List{&o.channel_multipliers, 1, 32, 1, 8},
         "channels of each level, in base_channels; each level halves the resolution"},
        {"blocks_per_level", Number<int64_t>{&o.blocks_per_level, 1, 16}, "residual blocks a level on the way down"},
        {"middle_blocks", Number<int64_t>{&o.middle_blocks, 1, 64},
         "residual blocks between the ways down and up, at the lowest resolution"},
        {"attention_resolutions", List{&o.attention_resolutions, 0, 1024, 0, 8},
         "heights of feature maps that get self-attention, e.g. [7]; 0: the lowest"},
        {"dropout", Number<double>{&o.dropout, 0, 0.9}, "probability of dropout inside the residual blocks"},
        {"patch_size", Number<int64_t>{&o.patch_size, 1, 16}, "pixel-unshuffle factor; 2: 14x14x4 instead of 28x28x1"},
        {"fourier_features", List{&o.fourier_features, 0, 10, 0, 8},
         "n of further inputs, sin and cos of 2^n pi x, for likelihoods: e.g. [7, 8], a period of two grey levels and "
         "one"},
        {"position_embedding", &o.position_embedding,
         "whether learned features of each position are added where a level begins, others for each label; null: true "
         "for up to 100 labels"}};
}

torch::Tensor fourier_features(const torch::Tensor& x, const std::vector<int64_t>& numbers) {
    if (numbers.empty()) return x;
    std::vector<torch::Tensor> parts = {x};
    for (const auto& wave : {torch::sin, torch::cos}) {
        for (const int64_t n : numbers) parts.push_back(wave(x * (std::numbers::pi * double(int64_t{1} << n))));
    }
    return torch::cat(parts, 1);
}

Net make_unet(const UNetOptions& options, const ExampleShape& shape, uint64_t seed, torch::Device device,
              int64_t classes) {
    check(options, shape);
    const auto modules = new_modules<UNetModules>(seed, device, options, shape, classes);
    for (auto& weight : modules->parameters()) {
        if (weight.dim() == 4 && weight.is_cpu()) weight.set_data(weight.contiguous(torch::MemoryFormat::ChannelsLast));
    }
    return Net(modules);
}

torch::Tensor time_embedding(const torch::Tensor& t, int64_t size) {
    const int64_t half = size / 2;
    const auto k = torch::arange(half, torch::dtype(torch::kFloat32).device(t.device()));
    const auto frequencies = torch::exp(k * (-std::log(10000.0) / double(half)));
    const auto angles = t.to(torch::kFloat32).unsqueeze(1) * frequencies;
    return torch::cat({angles.cos(), angles.sin()}, 1);
}

}  // namespace diffuse
