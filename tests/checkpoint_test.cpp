#include "diffuse/checkpoint.hpp"

#include "diffuse/file.hpp"
#include "diffuse/random.hpp"
#include "diffuse/tensor_file.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

Config tiny() {
    Config config;
    config.model = {.base_channels = 8, .channel_multipliers = {1, 2}, .patch_size = 2};
    return config;
}

Checkpoint example() {
    const UNet raw(tiny().model, {}, 1, torch::kCPU), average(tiny().model, {}, 2, torch::kCPU);
    return {tiny(), {}, 12, weights_of(raw), weights_of(average)};
}

TEST(CheckpointTest, HoldsBothSetsOfWeightsAndTheConfig) {
    const TemporaryFolder folder;
    save_checkpoint(folder / kCheckpointName, example());
    const Checkpoint read = load_checkpoint(folder.path());  // a run folder will do
    EXPECT_EQ(read.step, 12);
    EXPECT_EQ(to_json(read.config), to_json(tiny()));
    const auto expect_seed = [&](Weights which, uint64_t seed) {
        const auto found = make_network(read, which, torch::kCPU).named_parameters();
        const auto expected = UNet(tiny().model, {}, seed, torch::kCPU).named_parameters();
        ASSERT_EQ(found.size(), expected.size());
        for (size_t i = 0; i < found.size(); ++i) {
            EXPECT_TRUE(torch::equal(found[i].second, expected[i].second)) << found[i].first;
        }
    };
    expect_seed(Weights::kRaw, 1);
    expect_seed(Weights::kEma, 2);
}

TEST(CheckpointTest, MissingExtraAndMisshapedWeightsAreListedByName) {
    Checkpoint broken = example();
    broken.ema.erase("stem.weight");
    broken.ema["head.bias"] = torch::zeros({7});
    broken.ema["spare"] = torch::zeros({1});
    const auto error = error_of([&] { make_network(broken, Weights::kEma, torch::kCPU); });
    expect_contains(error, "1 missing (stem.weight)");
    expect_contains(error, "1 of another shape or type (head.bias)");
    expect_contains(error, "1 unknown (spare)");
    broken.model.clear();
    expect_contains(error_of([&] { make_network(broken, Weights::kRaw, torch::kCPU); }), ", ...)");
}

TEST(CheckpointTest, OtherFilesAreRefused) {
    const TemporaryFolder folder;
    write_tensor_file(folder / "latents.safetensors", {{{"latents", torch::zeros({1})}}, {}});
    expect_contains(error_of([&] { load_checkpoint(folder / "latents.safetensors"); }), "not a checkpoint of diffuse");
    expect_contains(error_of([&] { load_checkpoint(folder.path()); }), "No such file");
    write_tensor_file(folder / "newer", {{}, {{"format", "diffuse-checkpoint-9"}}});
    expect_contains(error_of([&] { load_checkpoint(folder / "newer"); }), "its format is 'diffuse-checkpoint-9'");
}

}  // namespace
}  // namespace diffuse
