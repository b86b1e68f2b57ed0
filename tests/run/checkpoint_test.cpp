#include "diffuse/run/model.hpp"

#include <map>

#include "diffuse/base/file.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

Config tiny() {
    Config config;
    config.net.unet = {.base_channels = 8, .channel_multipliers = {1, 2}, .patch_size = 2};
    return config;
}

Checkpoint example() {
    const auto weights = [](uint64_t seed) {
        return make_unet(tiny().net.unet, {}, seed, torch::kCPU).named_parameters();
    };
    return {tiny(),     {},
            12,         weights(1),
            weights(2), {2, 0.1 + 0.2, {1.0 / 3, 1e-300, 7}, "data", "machine", weights(3), weights(4), weights(5)}};
}

void expect_equal(const NamedTensors& a, const NamedTensors& b) {
    ASSERT_EQ(a.size(), b.size());
    const std::map<std::string, torch::Tensor> by_name(b.begin(), b.end());
    for (const auto& [name, tensor] : a) EXPECT_TRUE(torch::equal(tensor, by_name.at(name))) << name;
}

TEST(CheckpointTest, HoldsAllThatSamplingAndResumingNeedToTheLastBit) {
    const TemporaryFolder folder;
    const Checkpoint written = example();
    save_checkpoint(folder / kCheckpointName, written);
    const Checkpoint read = load_checkpoint(folder.path());  // a run folder will do
    EXPECT_EQ(read.step, 12);
    EXPECT_EQ(to_json(read.config), to_json(tiny()));
    expect_equal(read.model, written.model);
    expect_equal(read.ema, written.ema);
    expect_equal(read.training.mean, written.training.mean);
    expect_equal(read.training.square, written.training.square);
    expect_equal(read.training.momentum, written.training.momentum);
    EXPECT_EQ(read.training.bad_steps, 2);
    EXPECT_EQ(read.training.loss, 0.1 + 0.2);
    EXPECT_EQ(read.training.window.loss, 1.0 / 3);
    EXPECT_EQ(read.training.window.grad_norm, 1e-300);
    EXPECT_EQ(read.training.window.steps, 7);
    EXPECT_EQ(read.training.fingerprint, "data");
    EXPECT_EQ(read.training.machine, "machine");
}

TEST(CheckpointTest, MakesANetworkOfTheAveragedOrTheRawWeights) {
    const Checkpoint checkpoint = example();
    expect_equal(make_network(checkpoint, "raw", torch::kCPU).named_parameters(), checkpoint.model);
    expect_equal(make_network(checkpoint, "ema", torch::kCPU).named_parameters(), checkpoint.ema);
}

TEST(CheckpointTest, MissingExtraAndMisshapedWeightsAreListedByName) {
    Checkpoint broken = example();
    std::erase_if(broken.ema, [](const auto& row) { return row.first == "stem.weight"; });
    for (auto& [name, tensor] : broken.ema) {
        if (name == "head.bias") tensor = torch::zeros({7});
    }
    broken.ema.emplace_back("spare", torch::zeros({1}));
    const auto error = error_of([&] { make_network(broken, "ema", torch::kCPU); });
    expect_contains(error, "1 missing (stem.weight)");
    expect_contains(error, "1 of another shape or type (head.bias)");
    expect_contains(error, "1 unknown (spare)");
    const auto network = make_unet(tiny().net.unet, {}, 0, torch::kCPU).named_parameters();
    expect_contains(error_of([&] { restore(network, {}, "the weights"); }), ", ...)");
}

TEST(CheckpointTest, AConfigOfAHugeNetworkIsRefusedBeforeItIsBuilt) {
    Checkpoint broken = example();
    broken.config.net.unet.base_channels = 1024;
    broken.config.net.unet.channel_multipliers = {32, 32, 32, 32, 32, 32, 32, 32};  // terabytes
    broken.config.net.unet.patch_size = 1;
    expect_contains(error_of([&] { make_network(broken, "ema", torch::kCPU); }), "do not fit its config");
}

TEST(CheckpointTest, MetadataThatMakeNoSenseAreRefusedByKey) {
    const TemporaryFolder folder;
    save_checkpoint(folder / "good", example());
    const TensorFile good = read_tensor_file(folder / "good");
    const std::vector<std::pair<std::string, std::vector<std::string>>> wrong = {
        {"step", {"", "-1", "1.5", "1e400", "null", "18446744073709551615", "[[[[[[[[[["}},
        {"image_shape", {"[1,28]", "[0,28,28]", "[1,28,5000]", "[1,28,-28]", "{}"}},
        {"bad_steps", {"13", "true"}},  // more than there were steps
        {"loss", {"nan", "[]"}},
        {"window_loss", {"\"1\""}},
        {"window_steps", {"1.5"}},
        {"config", {"[]", "{\"modell\":{}}", "{\"seed\":1,\"seed\":2}"}}};
    for (const auto& [key, values] : wrong) {
        for (const auto& value : values) {
            TensorFile file = good;
            file.metadata[key] = value;
            write_tensor_file(folder / "bad", file);
            expect_contains(error_of([&] { load_checkpoint(folder / "bad"); }), key);
        }
        TensorFile file = good;
        file.metadata.erase(key);
        write_tensor_file(folder / "bad", file);
        expect_contains(error_of([&] { load_checkpoint(folder / "bad"); }), "it has no '" + key + "'");
    }
}

TEST(CheckpointTest, KnowsHowManyExamplesOfEachClassItWasTrainedOn) {
    const TemporaryFolder folder;
    Checkpoint written = example();
    written.config.net.classes = 2;
    written.data.condition.classes = {2, {"cat", "dog"}};
    written.data.condition.classes.examples = {7, 0};
    save_checkpoint(folder / "a", written);
    EXPECT_EQ(load_checkpoint(folder / "a").data.condition.classes.examples, (std::vector<int64_t>{7, 0}));
    TensorFile file = read_tensor_file(folder / "a");
    file.metadata["class_examples"] = "[7]";
    write_tensor_file(folder / "bad", file);
    expect_contains(error_of([&] { load_checkpoint(folder / "bad"); }), "its 'class_examples' makes no sense");
    file.metadata.erase("class_examples");  // written before they were counted
    write_tensor_file(folder / "old", file);
    EXPECT_TRUE(load_checkpoint(folder / "old").data.condition.classes.examples.empty());
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
