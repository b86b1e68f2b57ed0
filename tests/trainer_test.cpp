#include "diffuse/trainer.hpp"

#include <fstream>

#include "diffuse/file.hpp"
#include "diffuse/image.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

Config small() {
    Config config;
    config.dataset = {.kind = "digits", .dir = {}, .limit = 100};
    config.model = {.base_channels = 16, .channel_multipliers = {1}, .patch_size = 4};
    config.train.steps = 60;
    config.train.batch_size = 16;
    config.train.warmup_steps = 10;
    config.train.log_every = 10;
    config.train.sample_every = 30;
    config.train.checkpoint_every = 30;
    return config;
}

bool never() { return false; }

int64_t run(const Config& config, const std::filesystem::path& path, const std::function<bool()>& stop = never) {
    return train(config, load_dataset(config.dataset, Split::kTrain), torch::kCPU,
                 RunFolder::create(path, /*replace=*/false), stop);
}

std::vector<nlohmann::json> metrics(const std::filesystem::path& path) {
    std::vector<nlohmann::json> lines;
    std::ifstream file(path / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
}

TEST(Trainer, LearnsAndFillsTheRunFolder) {
    const TemporaryFolder folder;
    EXPECT_EQ(run(small(), folder / "run"), 60);
    const auto lines = metrics(folder / "run");
    ASSERT_EQ(lines.size(), 6u);
    EXPECT_LT(lines.back()["loss"], 0.9 * lines.front()["loss"].get<double>());  // measured: 0.83
    for (const char* key :
         {"step", "images", "loss", "grad_norm", "learning_rate", "images_per_second", "wall_seconds"}) {
        EXPECT_TRUE(lines.back().contains(key)) << key;
    }
    EXPECT_EQ(lines.back()["images"], 60 * 16);
    EXPECT_EQ(load_config(folder / "run" / "config.json").train.steps, 60);
    EXPECT_EQ(load_checkpoint(folder / "run").step, 60);
    for (const char* name : {"step-0000030.png", "step-0000060.png"}) {
        EXPECT_EQ(read_png(folder / "run" / "samples" / name).size(0), 1);
    }
}

TEST(Trainer, TheSameSeedGivesTheSameCheckpointAndAnotherSeedAnother) {
    const TemporaryFolder folder;
    Config config = small();
    config.train.steps = 5;
    config.train.sample_every = 0;
    config.model.dropout = 0.1;
    const auto bytes = [&](const std::string& name) {
        run(config, folder / name);
        return read_file(folder / name / kCheckpointName, 1 << 26);
    };
    const std::string first = bytes("first");
    EXPECT_TRUE(bytes("second") == first);
    config.seed = 1;
    EXPECT_FALSE(bytes("third") == first);
}

TEST(Trainer, TheAverageFollowsTheWeightsButIsNotThem) {
    const TemporaryFolder folder;
    run(small(), folder / "run");
    const Checkpoint checkpoint = load_checkpoint(folder / "run");
    const auto distance = [](const torch::Tensor& a, const torch::Tensor& b) { return (a - b).norm().item<double>(); };
    const auto start = UNet(small().model, {}, 0, torch::kCPU).named_parameters().front();
    const auto& raw = checkpoint.model.at(start.first);
    const auto& ema = checkpoint.ema.at(start.first);
    EXPECT_GT(distance(ema, raw), 0);
    EXPECT_LT(distance(ema, raw), distance(start.second.detach(), raw));
}

TEST(Trainer, StopsWhenAskedAndSavesWhatItHas) {
    const TemporaryFolder folder;
    int asked = 0;
    EXPECT_EQ(run(small(), folder / "run", [&] { return ++asked > 7; }), 7);
    EXPECT_EQ(load_checkpoint(folder / "run").step, 7);
}

TEST(Trainer, ALossThatIsNoLongerFiniteEndsTheRunAndKeepsTheLastCheckpoint) {
    const TemporaryFolder folder;
    Config config = small();
    config.train.learning_rate = 10;
    config.train.weight_decay = 10;  // makes every weight 99 times larger at each step
    config.train.warmup_steps = 0;
    config.train.checkpoint_every = 1;
    config.train.log_every = 1;
    expect_contains(error_of([&] { run(config, folder / "run"); }), "lower train.learning_rate");
    const Checkpoint kept = load_checkpoint(folder / "run");
    for (const auto& [name, weight] : kept.model) EXPECT_TRUE(weight.isfinite().all().item<bool>()) << name;
}

TEST(RunFolder, IsNeverOverwrittenUnasked) {
    const TemporaryFolder folder;
    RunFolder::create(folder / "run", false);
    expect_contains(error_of([&] { RunFolder::create(folder / "run", false); }), "already holds a run");
    write_file(folder / "run" / "metrics.jsonl", "old");
    write_file(folder / "run" / "mine.txt", "keep");
    RunFolder::create(folder / "run", true);
    EXPECT_FALSE(std::filesystem::exists(folder / "run" / "metrics.jsonl"));
    EXPECT_TRUE(std::filesystem::exists(folder / "run" / "mine.txt"));
}

}  // namespace
}  // namespace diffuse
