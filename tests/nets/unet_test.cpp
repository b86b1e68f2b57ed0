#include "diffuse/nets/net.hpp"

#include <fmt/format.h>

#include <map>
#include <set>

#include "diffuse/base/random.hpp"
#include "diffuse/ops/instruction_set.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

UNetOptions tiny() {
    return {.base_channels = 16,
            .channel_multipliers = {1, 2},
            .blocks_per_level = 1,
            .attention_resolutions = {7},
            .patch_size = 2};
}
Net network(const UNetOptions& config, const ExampleShape& shape = {}, int64_t classes = 0) {
    return make_unet(config, shape, /*seed=*/1, torch::kCPU, classes);
}
torch::Tensor images(const ExampleShape& shape, int64_t count = 3) {
    return normal({count, shape.channels, shape.height, shape.width}, {1, Purpose::kDigit, 0});
}
/// The last convolution of a new network is zero; this one's is not.
void randomise(const Net& unet) {
    const torch::NoGradGuard no_grad;
    torch::manual_seed(3);
    for (auto& weight : unet.parameters()) weight.add_(0.1 * torch::randn_like(weight));
}

/// The formula of Ho et al. 2020, in double.
torch::Tensor exact_time_embedding(const torch::Tensor& t, int64_t size) {
    const auto k = torch::arange(size / 2, torch::kFloat64);
    const auto angles = t.to(torch::kFloat64).unsqueeze(1) * torch::pow(10000.0, -k / double(size / 2));
    return torch::cat({angles.cos(), angles.sin()}, 1);
}

/// The network's equations once more, in double and as plainly as they are written in papers, from its named weights.
class PlainUNet {
public:
    PlainUNet(const UNetOptions& config, const Net& unet) : config_(config) {
        for (const auto& [name, weight] : unet.named_parameters()) {
            weights_[name] = weight.detach().to(torch::kFloat64).contiguous().requires_grad_(true);
        }
    }
    const torch::Tensor& weight(const std::string& name) const { return weights_.at(name); }

    torch::Tensor operator()(const torch::Tensor& x, const torch::Tensor& t, const torch::Tensor& labels) const {
        const size_t levels = config_.channel_multipliers.size();
        const auto time = silu(linear("time1", exact_time_embedding(t, config_.base_channels)));
        auto told = linear("time2", time);
        if (labels.defined()) told = told + weights_.at("label.weight").index_select(0, labels);
        const auto embedding = silu(told);
        const auto seen = fourier_features(x.to(torch::kFloat64), config_.fourier_features);
        auto h = convolution("stem", torch::pixel_unshuffle(seen, config_.patch_size));
        h = h + positions(0, labels, h);
        std::vector<torch::Tensor> skips = {h};
        for (size_t level = 0; level < levels; ++level) {
            for (int64_t i = 0; i < config_.blocks_per_level; ++i) {
                skips.push_back(h = block(fmt::format("down{}_{}", level, i), h, embedding));
            }
            if (level + 1 == levels) break;
            h = convolution(fmt::format("downsample{}", level), h, 2);
            skips.push_back(h = h + positions(level + 1, labels, h));
        }
        for (int64_t i = 0; i < config_.middle_blocks; ++i) {
            const auto name = fmt::format("middle{}", i);
            h = i % 2 == 0 ? block(name, h, embedding) : residual(name, h, embedding);
        }
        for (size_t level = levels; level-- > 0;) {
            for (int64_t i = 0; i <= config_.blocks_per_level; ++i) {
                h = block(fmt::format("up{}_{}", level, i), torch::cat({h, skips.back()}, 1), embedding);
                skips.pop_back();
            }
            if (level == 0) break;
            const auto larger = h.repeat_interleave(2, 2).repeat_interleave(2, 3);
            h = convolution(fmt::format("upsample{}", level), larger);
        }
        return torch::pixel_shuffle(convolution("head", silu(normalised("head_norm", h))), config_.patch_size);
    }

private:
    static torch::Tensor silu(const torch::Tensor& x) { return x / (1 + torch::exp(-x)); }

    /// The features of each position where a level begins, stored with channels last; without a label those of none.
    torch::Tensor positions(size_t level, const torch::Tensor& labels, const torch::Tensor& like) const {
        const auto& table = weights_.at(fmt::format("position{}.weight", level));
        const auto last = like.permute({0, 2, 3, 1});
        const auto rows =
            labels.defined() ? table.index_select(0, labels) : table.slice(0, -1).expand({like.size(0), -1});
        return rows.view(last.sizes()).permute({0, 3, 1, 2});
    }
    torch::Tensor linear(const std::string& name, const torch::Tensor& x) const {
        return x.matmul(weights_.at(name + ".weight").t()) + weights_.at(name + ".bias");
    }
    torch::Tensor convolution(const std::string& name, const torch::Tensor& x, int64_t stride = 1) const {
        const auto& weight = weights_.at(name + ".weight");
        return torch::conv2d(x, weight, weights_.at(name + ".bias"), stride, /*padding=*/weight.size(2) / 2);
    }
    /// Group normalisation (Wu & He 2018, arXiv:1803.08494, eq. 1 and 6).
    torch::Tensor normalised(const std::string& name, const torch::Tensor& x) const {
        const int64_t channels = x.size(1);
        int64_t groups = std::min<int64_t>(32, channels / 8);
        while (channels % groups != 0) --groups;
        const auto grouped = x.reshape({x.size(0), groups, -1}), away = grouped - grouped.mean(2, true);
        const auto y = (away / (away.square().mean(2, true) + 1e-5).sqrt()).reshape_as(x);
        return y * weights_.at(name + ".weight").view({1, -1, 1, 1}) + weights_.at(name + ".bias").view({1, -1, 1, 1});
    }
    torch::Tensor residual(const std::string& name, const torch::Tensor& x, const torch::Tensor& embedding) const {
        const auto film = linear(name + ".film", embedding).unsqueeze(2).unsqueeze(3).chunk(2, 1);
        const auto h = convolution(name + ".conv1", silu(normalised(name + ".norm1", x)));
        const auto modulated = normalised(name + ".norm2", h) * (1 + film[0]) + film[1];
        const bool narrows = weights_.contains(name + ".shortcut.weight");
        return (narrows ? convolution(name + ".shortcut", x) : x) + convolution(name + ".conv2", silu(modulated));
    }
    /// softmax(q^T k / sqrt(d)) v of each head (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).
    torch::Tensor attention(const std::string& name, const torch::Tensor& x) const {
        const int64_t heads = x.size(1) / 32;
        std::vector<torch::Tensor> mixed;
        for (const auto& head : convolution(name + ".qkv", normalised(name + ".norm", x)).chunk(heads, 1)) {
            const auto qkv = head.flatten(2).chunk(3, 1);  // [N, d, pixels] each
            const auto scores = torch::einsum("ncp,ncq->npq", {qkv[0], qkv[1]}) / std::sqrt(double(qkv[0].size(1)));
            const auto weights = scores.exp() / scores.exp().sum(2, true);
            mixed.push_back(torch::einsum("npq,ncq->ncp", {weights, qkv[2]}));
        }
        return x + convolution(name + ".proj", torch::cat(mixed, 1).view_as(x));
    }
    torch::Tensor block(const std::string& name, const torch::Tensor& x, const torch::Tensor& embedding) const {
        const auto h = residual(name, x, embedding);
        const auto& attended = config_.attention_resolutions;
        const bool attends = std::find(attended.begin(), attended.end(), h.size(2)) != attended.end();
        return attends ? attention(name + "_attention", h) : h;
    }

    UNetOptions config_;
    std::map<std::string, torch::Tensor> weights_;
};

/// The distance as a share of the size.
double away(const torch::Tensor& measured, const torch::Tensor& exact) {
    return ((measured.to(torch::kFloat64) - exact).norm() / exact.norm()).item<double>();
}

/// Networks that are walked on plain memory and, the last ones, by LibTorch's operators: channels in no multiples
/// of 16.
std::vector<std::pair<UNetOptions, ExampleShape>> networks() {
    return {
        {{.base_channels = 32,
          .channel_multipliers = {1, 2},
          .blocks_per_level = 2,
          .attention_resolutions = {14, 7},
          .patch_size = 2},
         {1, 28, 28}},
        {{.base_channels = 16, .channel_multipliers = {1, 2, 2}}, {1, 28, 28}},
        {{.base_channels = 32, .channel_multipliers = {1, 3, 2}, .middle_blocks = 3, .attention_resolutions = {4, 2}},
         {3, 8, 16}},
        {{.base_channels = 16, .channel_multipliers = {2, 1}, .fourier_features = {1}}, {2, 6, 10}},
        {{.base_channels = 24, .channel_multipliers = {1, 3, 2}, .middle_blocks = 3, .attention_resolutions = {4, 2}},
         {3, 8, 16}}};
}

/// With each of the instruction sets that the kernels are compiled for and this CPU has.
class UNetOn : public testing::TestWithParam<std::string> {
protected:
    void SetUp() override { kernels::use_instruction_set(GetParam()); }
    void TearDown() override { kernels::use_instruction_set(""); }
};
INSTANTIATE_TEST_SUITE_P(EachInstructionSet, UNetOn, testing::ValuesIn(kernels::instruction_sets()),
                         [](const auto& test) { return test.param; });

/// Of all kinds of labels, and of one time and class or those of each image. All networks with the best instruction
/// set, one with the others.
TEST_P(UNetOn, IsItsEquationsInDoubleAndSoAreItsGradients) {
    const auto all = networks(), some_of_all = decltype(all){all[1]};
    for (const auto& [config, shape] : GetParam() == kernels::instruction_sets().front() ? all : some_of_all) {
        const auto each = torch::tensor({1.0f, 300.5f, 1000.0f}), one = torch::tensor({300.5f});
        const auto none = torch::full({3}, 10, torch::kInt64), some = torch::tensor({0, 9, 10}, torch::kInt64);
        for (const auto& [classes, t, told, meant] : {std::tuple{0, each, torch::Tensor(), torch::Tensor()},
                                                      {0, one, {}, {}},
                                                      {10, each, some, some},
                                                      {10, one, some, some},
                                                      {10, each, {}, none},
                                                      {10, one, {}, none}}) {
            const Net unet = network(config, shape, classes);
            randomise(unet);
            const PlainUNet plain(config, unet);
            const auto x = images(shape).requires_grad_(true),
                       x64 = x.detach().to(torch::kFloat64).requires_grad_(true);
            const auto y = unet({x, t, {.classes = told}}), exact = plain(x64, t, meant);
            // float32's rounding in some thirty layers; measured: 4e-6.
            EXPECT_LT(away(y, exact), 1e-5);
            (y * y.detach()).sum().backward();
            (exact * exact.detach()).sum().backward();
            // Back through as many layers once more.
            EXPECT_LT(away(x.grad(), x64.grad()), 4e-5);
            for (const auto& [name, weight] : unet.named_parameters()) {
                EXPECT_LT(away(weight.grad(), plain.weight(name).grad()), 4e-5) << name;
            }
        }
    }
}

TEST(UNet, KeepsWhatEachCallNeedsForItsGradients) {
    const Net unet = network(tiny(), {}, 3);
    randomise(unet);
    const auto weight = unet.parameters().front();
    const auto loss = [&](double factor) { return unet({factor * images({}), torch::tensor({5.0f})}).square().sum(); };
    loss(1).backward();
    const auto alone = weight.grad().clone();
    const auto first = loss(1), second = loss(2);
    for (int i = 0; i < 2; ++i) {
        weight.mutable_grad().zero_();
        first.backward({}, /*retain_graph=*/true);
        EXPECT_TRUE(torch::equal(weight.grad(), alone));
        second.backward({}, /*retain_graph=*/true);
        EXPECT_FALSE(torch::equal(weight.grad(), 2 * alone));
    }
}

TEST(UNet, KeepsTheShapeOfTheImageForEveryArchitecture) {
    const std::vector<std::pair<UNetOptions, ExampleShape>> cases = {
        {tiny(), {1, 28, 28}},
        {{.base_channels = 8, .channel_multipliers = {1}, .blocks_per_level = 1}, {1, 5, 7}},
        {{.base_channels = 8, .channel_multipliers = {1, 2, 3}, .blocks_per_level = 2}, {3, 28, 28}},
        {{.base_channels = 24, .channel_multipliers = {2, 1}, .attention_resolutions = {16, 8}}, {1, 16, 32}},
        {{.base_channels = 8, .channel_multipliers = {1, 1}, .patch_size = 4}, {2, 32, 32}},
        {{.base_channels = 8, .channel_multipliers = {1, 2}, .patch_size = 2, .fourier_features = {7, 8}}, {2, 8, 8}},
    };
    for (const auto& [config, shape] : cases) {
        const auto x = images(shape);
        const Net unet = network(config, shape);
        randomise(unet);
        const auto y = unet({x, torch::tensor({1.0f, 500.0f, 1000.0f})});
        EXPECT_EQ(y.sizes(), x.sizes());
        EXPECT_TRUE(y.isfinite().all().item<bool>());
    }
}

TEST(UNet, FourierFeaturesRepeatWithTheGreyLevels) {
    // 2^7 pi x has a period of 2 / 128 in x, two of 128 levels in [-1, 1]; 2^8 pi x of one.
    const auto x = images({2, 3, 4}, 1);
    const auto seen = fourier_features(x, {7, 8});
    EXPECT_EQ(seen.sizes(), torch::IntArrayRef({1, 10, 3, 4}));
    EXPECT_TRUE(torch::equal(seen.narrow(1, 0, 2), x));
    const auto angle = M_PI * 128 * x.to(torch::kFloat64);
    // float32's rounding of an angle of some hundreds
    EXPECT_TRUE(torch::allclose(seen.narrow(1, 2, 2).to(torch::kFloat64), angle.sin(), 0, 1e-3));
    EXPECT_TRUE(torch::allclose(seen.narrow(1, 8, 2).to(torch::kFloat64), (2 * angle).cos(), 0, 1e-3));
    EXPECT_TRUE(
        torch::allclose(fourier_features(x + 2.0 / 128, {7, 8}).narrow(1, 2, 8), seen.narrow(1, 2, 8), 0, 2e-3));
    EXPECT_TRUE(torch::equal(fourier_features(x, {}), x));
}

TEST(UNet, PredictsZeroWhenNew) {
    EXPECT_EQ(network(tiny())({images({}), torch::tensor({5.0f})}).abs().max().item<float>(), 0);
}

TEST(UNet, SendsGradientsToEveryParameter) {
    const Net unet = network(tiny());
    randomise(unet);
    unet({images({}), torch::tensor({1.0f, 10.0f, 100.0f})}).square().mean().backward();
    for (const auto& [name, weight] : unet.named_parameters()) {
        ASSERT_TRUE(weight.grad().defined()) << name;
        EXPECT_GT(weight.grad().abs().max().item<float>(), 0) << name;
    }
}

TEST(UNet, GivesOneTimeToAllImagesWhenThereIsOne) {
    const torch::NoGradGuard no_grad;
    const Net unet = network(tiny());
    randomise(unet);
    const auto one = unet({images({}), torch::tensor({42.0f})}), three = unet({images({}), torch::full({3}, 42.0f)});
    // The time layers run on other batch sizes, whose sums differ in the last digits: some hundred roundings (6e-8
    // each) of the largest number.
    const auto away = [&](const torch::Tensor& other) {
        return ((one - other).abs().max() / one.abs().max()).item<float>();
    };
    EXPECT_LT(away(three), 1e-4);
    EXPECT_GT(away(unet({images({}), torch::tensor({43.0f})})), 1e-2);
}

TEST(UNet, IsAFunctionOfItsSeed) {
    const auto flat = [](uint64_t seed) {
        std::vector<torch::Tensor> parts;
        for (const auto& weight : make_unet(tiny(), {}, seed, torch::kCPU).parameters())
            parts.push_back(weight.flatten());
        return torch::cat(parts);
    };
    EXPECT_TRUE(torch::equal(flat(1), flat(1)));
    EXPECT_FALSE(torch::equal(flat(1), flat(2)));
}

TEST(UNet, RefusesSizesThatDoNotFitAndNamesTheKey) {
    UNetOptions levels = tiny(), channels = tiny(), attention = tiny();
    levels.channel_multipliers = {1, 2, 2};
    channels.base_channels = 20;
    attention.attention_resolutions = {8};
    expect_contains(error_of([&] { network(levels); }), "model.channel_multipliers");
    expect_contains(error_of([&] { network(channels); }), "model.base_channels");
    expect_contains(error_of([&] { network(attention); }), "model.attention_resolutions");
}

TEST(UNet, DropoutActsInTrainingOnly) {
    UNetOptions config = tiny();
    config.dropout = 0.5;
    Net unet = network(config);
    randomise(unet);
    const auto x = images({}), t = torch::tensor({5.0f});
    EXPECT_FALSE(torch::equal(unet({x, t}), unet({x, t})));
    unet.set_training(false);
    EXPECT_TRUE(torch::equal(unet({x, t}), unet({x, t})));
}

TEST(UNet, WithClassesStartsWithTheWeightsOfOneWithoutAndALabelThatSaysNothing) {
    const auto plain = network(tiny()).named_parameters(), labelled = network(tiny(), {}, 5).named_parameters();
    const std::map<std::string, torch::Tensor> before(plain.begin(), plain.end());
    // 16 channels in patches of 2x2 of 28x28 pixels, and as many at half the resolution.
    const std::map<std::string, std::vector<int64_t>> tables = {
        {"label.weight", {6, 64}}, {"position0.weight", {6, 14 * 14 * 16}}, {"position1.weight", {6, 7 * 7 * 16}}};
    for (const auto& [name, weight] : labelled) {
        if (const auto table = tables.find(name); table != tables.end()) {
            EXPECT_EQ(weight.sizes(), table->second) << name;
            EXPECT_EQ(weight.abs().max().item<float>(), 0) << name;
        } else {
            EXPECT_TRUE(torch::equal(weight, before.at(name))) << name;
        }
    }
    EXPECT_EQ(labelled.size(), plain.size() + 1);
}

TEST(UNet, KnowsPositionsWhereAskedOrWhereLabelsAreFew) {
    const auto knows_positions = [](std::optional<bool> asked, int64_t classes) {
        UNetOptions config = tiny();
        config.position_embedding = asked;
        return network(config, {}, classes).named_parameters().back().first == "position1.weight";
    };
    EXPECT_TRUE(knows_positions({}, 100));
    EXPECT_FALSE(knows_positions({}, 101));
    EXPECT_TRUE(knows_positions(true, 101));
    EXPECT_FALSE(knows_positions(false, 10));
    EXPECT_TRUE(knows_positions({}, 0));
}

TEST(UNet, TeachesTheRowsOfTheLabelsThatItIsToldAndNoOthers) {
    const auto rows = [&](const torch::Tensor& labels) {
        const Net unet = network(tiny(), {}, 3);
        randomise(unet);
        unet({images({}), torch::tensor({5.0f}), {.classes = labels}}).square().mean().backward();
        std::set<std::vector<bool>> found;
        for (const auto& [name, table] : unet.named_parameters()) {
            if (!name.starts_with("label") && !name.starts_with("position")) continue;
            const auto moved = table.grad().abs().sum(1) > 0;
            found.insert(std::vector<bool>(moved.data_ptr<bool>(), moved.data_ptr<bool>() + 4));
        }
        EXPECT_EQ(found.size(), 1u) << "all tables have learned of the same labels";
        return *found.begin();
    };
    EXPECT_EQ(rows(torch::tensor({2, 0, 2}, torch::kInt64)), (std::vector<bool>{true, false, true, false}));
    EXPECT_EQ(rows(torch::tensor({3, 1, 1}, torch::kInt64)), (std::vector<bool>{false, true, false, true}));
    EXPECT_EQ(rows({}), (std::vector<bool>{false, false, false, true}));
}

TEST(TimeEmbedding, IsItsFormulaInDouble) {
    const auto t = torch::arange(0, 4001, 0.5);
    for (const int64_t size : {16, 64}) {
        const auto error = (time_embedding(t, size) - exact_time_embedding(t, size)).abs();
        // Frequency, angle and result are each rounded to float32, by up to 6e-8 of them.
        EXPECT_LT((error / (1 + t.unsqueeze(1))).max().item<double>(), 1.2e-7) << size;
    }
}

TEST(TimeEmbedding, HasUnitNormPerFrequencyAndTellsTimesApart) {
    const auto embedding = time_embedding(torch::arange(1, 1001), 32);
    EXPECT_EQ(embedding.sizes(), (torch::IntArrayRef{1000, 32}));
    EXPECT_TRUE(torch::allclose(embedding.square().sum(1), torch::full({1000}, 16.0f), 0, 1e-4));
    const auto distances = torch::cdist(embedding, embedding) + 10 * torch::eye(1000);
    EXPECT_GT(distances.min().item<float>(), 0.1);
}

}  // namespace
}  // namespace diffuse
