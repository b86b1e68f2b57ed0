#include "diffuse/unet.hpp"

#include "diffuse/random.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

ModelConfig tiny() {
    return {.base_channels = 16,
            .channel_multipliers = {1, 2},
            .blocks_per_level = 1,
            .attention_resolutions = {7},
            .patch_size = 2};
}
UNet network(const ModelConfig& config, const ImageShape& shape = {}) {
    return UNet(config, shape, /*seed=*/1, torch::kCPU);
}
torch::Tensor images(const ImageShape& shape, int64_t count = 3) {
    return normal({count, shape.channels, shape.height, shape.width}, {1, Purpose::kDigit, 0});
}
/// A new network predicts zero; this one does not.
void randomise(const UNet& unet) {
    const torch::NoGradGuard no_grad;
    torch::manual_seed(3);
    for (auto& weight : unet.parameters()) weight.add_(0.1 * torch::randn_like(weight));
}

TEST(UNet, KeepsTheShapeOfTheImageForEveryArchitecture) {
    const std::vector<std::pair<ModelConfig, ImageShape>> cases = {
        {tiny(), {1, 28, 28}},
        {{.base_channels = 8, .channel_multipliers = {1}, .blocks_per_level = 1}, {1, 5, 7}},
        {{.base_channels = 8, .channel_multipliers = {1, 2, 3}, .blocks_per_level = 2}, {3, 28, 28}},
        {{.base_channels = 24, .channel_multipliers = {2, 1}, .attention_resolutions = {16, 8}}, {1, 16, 32}},
        {{.base_channels = 8, .channel_multipliers = {1, 1}, .patch_size = 4}, {2, 32, 32}},
    };
    for (const auto& [config, shape] : cases) {
        const auto x = images(shape);
        const UNet unet = network(config, shape);
        randomise(unet);
        const auto y = unet(x, torch::tensor({1.0f, 500.0f, 1000.0f}));
        EXPECT_EQ(y.sizes(), x.sizes());
        EXPECT_TRUE(y.isfinite().all().item<bool>());
    }
}

TEST(UNet, PredictsZeroWhenNew) {
    EXPECT_EQ(network(tiny())(images({}), torch::tensor({5.0f})).abs().max().item<float>(), 0);
}

TEST(UNet, SendsGradientsToEveryParameter) {
    const UNet unet = network(tiny());
    randomise(unet);
    unet(images({}), torch::tensor({1.0f, 10.0f, 100.0f})).square().mean().backward();
    for (const auto& [name, weight] : unet.named_parameters()) {
        ASSERT_TRUE(weight.grad().defined()) << name;
        EXPECT_GT(weight.grad().abs().max().item<float>(), 0) << name;
    }
}

TEST(UNet, GivesOneTimeToAllImagesWhenThereIsOne) {
    const torch::NoGradGuard no_grad;
    const UNet unet = network(tiny());
    randomise(unet);
    const auto one = unet(images({}), torch::tensor({42.0f})), three = unet(images({}), torch::full({3}, 42.0f));
    EXPECT_TRUE(torch::allclose(one, three, 1e-5, 1e-5));  // float32; the time layers run on other batch sizes
    EXPECT_FALSE(torch::allclose(one, unet(images({}), torch::tensor({43.0f})), 1e-5, 1e-5));
}

TEST(UNet, IsAFunctionOfItsSeed) {
    const auto flat = [](uint64_t seed) {
        std::vector<torch::Tensor> parts;
        for (const auto& weight : UNet(tiny(), {}, seed, torch::kCPU).parameters()) parts.push_back(weight.flatten());
        return torch::cat(parts);
    };
    EXPECT_TRUE(torch::equal(flat(1), flat(1)));
    EXPECT_FALSE(torch::equal(flat(1), flat(2)));
}

TEST(UNet, RefusesSizesThatDoNotFitAndNamesTheKey) {
    ModelConfig levels = tiny(), channels = tiny(), attention = tiny();
    levels.channel_multipliers = {1, 2, 2};
    channels.base_channels = 20;
    attention.attention_resolutions = {8};
    expect_contains(error_of([&] { network(levels); }), "model.channel_multipliers");
    expect_contains(error_of([&] { network(channels); }), "model.base_channels");
    expect_contains(error_of([&] { network(attention); }), "model.attention_resolutions");
}

TEST(UNet, DropoutActsInTrainingOnly) {
    ModelConfig config = tiny();
    config.dropout = 0.5;
    UNet unet = network(config);
    randomise(unet);
    const auto x = images({}), t = torch::tensor({5.0f});
    EXPECT_FALSE(torch::equal(unet(x, t), unet(x, t)));
    unet.set_training(false);
    EXPECT_TRUE(torch::equal(unet(x, t), unet(x, t)));
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
