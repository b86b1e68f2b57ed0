#include "diffuse/run/trainer.hpp"

#include <ATen/Parallel.h>

#include <fstream>

#include "diffuse/base/device.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/plot/sheet.hpp"
#include "diffuse/run/model.hpp"
#include "testing.hpp"
#include "training.hpp"

namespace diffuse {
namespace {

Config small() { return training_config({.kind = "digits", .dir = {}, .limit = 100}, /*steps=*/60); }

std::vector<nlohmann::json> metrics(const std::filesystem::path& path) {
    std::vector<nlohmann::json> lines;
    std::ifstream file(path / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
}

/// Metrics without what depends on the clock.
std::vector<nlohmann::json> timeless(std::vector<nlohmann::json> lines) {
    for (auto& line : lines) {
        line.erase("images_per_second");
        line.erase("wall_seconds");
    }
    return lines;
}

TEST(Trainer, LearnsAndFillsTheRunFolder) {
    const TemporaryFolder folder;
    EXPECT_EQ(train_in(small(), folder / "run"), 60);
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
    config.net.unet.dropout = 0.1;
    const auto bytes = [&](const std::string& name) {
        train_in(config, folder / name);
        return checkpoint_bytes(folder / name);
    };
    const std::string first = bytes("first");
    EXPECT_TRUE(bytes("second") == first);
    config.seed = 1;
    EXPECT_FALSE(bytes("third") == first);
}

TEST(Trainer, TheAverageFollowsTheWeightsButIsNotThem) {
    const TemporaryFolder folder;
    train_in(small(), folder / "run");
    const Checkpoint checkpoint = load_checkpoint(folder / "run");
    const auto distance = [](const torch::Tensor& a, const torch::Tensor& b) { return (a - b).norm().item<double>(); };
    const auto start = make_unet(small().net.unet, {}, 0, torch::kCPU).named_parameters().front();
    const auto find = [&](const NamedTensors& tensors) {
        return std::find_if(tensors.begin(), tensors.end(), [&](const auto& row) { return row.first == start.first; })
            ->second;
    };
    const auto raw = find(checkpoint.model), ema = find(checkpoint.ema);
    EXPECT_GT(distance(ema, raw), 0);
    EXPECT_LT(distance(ema, raw), distance(start.second.detach(), raw));
}

torch::Tensor labels_of(const Checkpoint& checkpoint) {
    for (const auto& [name, weight] : checkpoint.model) {
        if (name == "label.weight") return weight;
    }
    return {};
}

TEST(Trainer, TeachesTheLabelsAndForSomeImagesThatThereIsNone) {
    const TemporaryFolder folder;
    Config config = small();
    train_in(config, folder / "run");
    const Checkpoint checkpoint = load_checkpoint(folder / "run");
    EXPECT_EQ(checkpoint.config.net.classes, 10);
    EXPECT_EQ(load_config(folder / "run" / "config.json").net.classes, 10);
    EXPECT_EQ(labels_of(checkpoint).abs().sum(1).gt(0).sum().item<int64_t>(), 11);
    const Net network = make_network(checkpoint, "raw", torch::kCPU);
    const auto said = [&](int64_t label) {
        return network({torch::zeros({1, 1, 28, 28}), torch::tensor({500.0f}), {.classes = torch::tensor({label})}});
    };
    EXPECT_GT((said(3) - said(10)).abs().max().item<double>(), 0);
    EXPECT_EQ(read_png(folder / "run" / "samples" / "step-0000060.png").size(2) / (2 * 30), 10)
        << "a column for each class";

    config.train.label_dropout = 0;
    train_in(config, folder / "always");
    const auto labels = labels_of(load_checkpoint(folder / "always"));
    EXPECT_EQ(labels[10].abs().max().item<float>(), 0);
    EXPECT_GT(labels[9].abs().max().item<float>(), 0);
}

TEST(Trainer, DoesWithoutLabelsWhereAskedOrWhereThereAreNone) {
    const TemporaryFolder folder;
    Config config = small();
    config.net.classes = 0;
    config.train.steps = 3;
    train_in(config, folder / "asked");
    EXPECT_FALSE(labels_of(load_checkpoint(folder / "asked")).defined());
    config.net.classes = {};
    const Dataset unlabelled{load_dataset(config.dataset, Split::kTrain).examples};
    const auto none = RunFolder::create(folder / "none", false);
    train(resolved(config, unlabelled), unlabelled, torch::kCPU, {run_writer(none)});
    EXPECT_TRUE(checkpoint_bytes(folder / "none") == checkpoint_bytes(folder / "asked"));
}

TEST(Trainer, StopsWhenAskedAndSavesWhatItHas) {
    const TemporaryFolder folder;
    EXPECT_EQ(train_in(small(), folder / "run", after(7)), 7);
    EXPECT_EQ(load_checkpoint(folder / "run").step, 7);
}

/// Also with dropout, and resumed on another number of threads. 11 examples: parts of 4, 4 and 3.
TEST(Trainer, TrainsToTheSameBitsOnAnyNumberOfThreads) {
    const TemporaryFolder folder;
    Config config = small();
    config.net.classes = 10;
    config.net.unet.dropout = 0.1;
    config.train.batch_size = 11;
    config.train.steps = 8;
    config.train.sample_every = 0;
    const int64_t threads = at::get_num_threads();
    for (const bool drops : {true, false}) {
        config.net.unet.dropout = drops ? 0.1 : 0;
        std::vector<std::string> found;
        for (const int64_t count : {1, 2, 3, 4}) {
            const auto run = folder / fmt::format("{} {}", count, drops);
            set_threads(count);
            train_in(config, run, after(3));
            set_threads(5 - count);
            train_in(config, run);
            found.push_back(checkpoint_bytes(run));
        }
        set_threads(threads);
        for (const auto& bytes : found) EXPECT_TRUE(bytes == found.front()) << drops;
    }
}

TEST(Trainer, AResumedRunEndsWithTheSameBitsAndTheSameMetricsAsOneThatNeverStopped) {
    const TemporaryFolder folder;
    Config config = small();
    config.net.unet.dropout = 0.1;
    config.train.keep_checkpoints = 1;
    train_in(config, folder / "whole");
    // Stopped in the first epoch of six steps, amid a line of metrics, at its end, and at a checkpoint's step.
    train_in(config, folder / "parts", after(3));
    for (const int steps : {14, 3, 10}) train_in(config, folder / "parts", after(steps));
    EXPECT_EQ(load_checkpoint(folder / "parts").step, 30);
    EXPECT_EQ(train_in(config, folder / "parts"), 60);
    EXPECT_TRUE(checkpoint_bytes(folder / "parts") == checkpoint_bytes(folder / "whole"));
    EXPECT_EQ(timeless(metrics(folder / "parts")), timeless(metrics(folder / "whole")));
    for (size_t i = 1; i < 6; ++i) {
        const auto lines = metrics(folder / "parts");
        EXPECT_GT(lines[i]["wall_seconds"], lines[i - 1]["wall_seconds"]);
    }
}

TEST(Trainer, ResumingRewritesTheMetricsAfterTheCheckpointAndNoOthers) {
    const TemporaryFolder folder;
    train_in(small(), folder / "whole");
    train_in(small(), folder / "killed", after(30));
    LineFile file(folder / "killed" / "metrics.jsonl");
    file.append(R"({"step": 40, "loss": 1e9})");  // written after the checkpoint of step 30, before the process died
    file.append(R"({"step": 50, "lo)");
    std::filesystem::resize_file(folder / "killed" / "metrics.jsonl",
                                 std::filesystem::file_size(folder / "killed" / "metrics.jsonl") - 1);
    write_file(folder / "killed" / "checkpoint.safetensors.4711.tmp", "half a checkpoi");
    train_in(small(), folder / "killed");
    EXPECT_EQ(timeless(metrics(folder / "killed")), timeless(metrics(folder / "whole")));
    EXPECT_FALSE(path_exists(folder / "killed" / "checkpoint.safetensors.4711.tmp"));
}

TEST(Trainer, TheStepsOfARunMayChangeAndItsDataMayNot) {
    const TemporaryFolder folder;
    Config config = small();
    config.train.decay = "none";  // the others depend on the number of steps
    train_in(config, folder / "long");
    config.train.steps = 20;
    train_in(config, folder / "short");
    config.train.steps = 60;
    EXPECT_EQ(train_in(config, folder / "short"), 60);
    EXPECT_TRUE(checkpoint_bytes(folder / "short") == checkpoint_bytes(folder / "long"));
    config.train.steps = 70;
    Dataset relabelled = load_dataset(config.dataset, Split::kTrain);
    relabelled.condition.classes[0] = 9 - relabelled.condition.classes[0];
    expect_contains(error_of([&] { train(config, relabelled, torch::kCPU, {}, load_checkpoint(folder / "short")); }),
                    "not the one this run was trained on");
    config.dataset.seed = 1;
    expect_contains(error_of([&] { train_in(config, folder / "short"); }), "not the one this run was trained on");
}

TEST(Trainer, WhatMustNotChangeInARunIsRefusedByKey) {
    const Config before = small();
    const auto refused = [&](const std::string& setting) {
        return error_of([&] { resumed(before, with_settings(before, {setting})); });
    };
    for (const char* setting :
         {"seed=1", "dataset.limit=99", "dataset.kind=mnist", "dataset.seed=1", "schedule.kind=cosine",
          "schedule.steps=500", "model.base_channels=8", "model.prediction=v", "model.dropout=0.5", "model.classes=0",
          "train.batch_size=8", "train.optimizer=adamw"}) {
        const std::string key = setting;
        expect_contains(refused(setting), key.substr(0, key.find('=')) + " is ");
    }
    const Config after =
        resumed(before, with_settings(before, {"train.steps=90", "train.sample_every=0", "dataset.dir=/data"}));
    EXPECT_EQ(changes(before, after).size(), 3u);
}

TEST(Trainer, KeepsAsManyCheckpointsAsAskedEachUnderItsStep) {
    const TemporaryFolder folder;
    Config config = small();
    config.train.checkpoint_every = 10;
    config.train.keep_checkpoints = 2;
    train_in(config, folder / "run");
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "run" / "checkpoints")) {
        names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names, (std::vector<std::string>{"step-0000050.safetensors", "step-0000060.safetensors"}));
    EXPECT_EQ(load_checkpoint(folder / "run" / "checkpoints" / names[0]).step, 50);
}

/// A training that soon diverges for good: every weight becomes 99 times larger at each step.
Config diverging() {
    Config config = small();
    config.train.learning_rate = 10;
    config.train.weight_decay = 10;
    config.train.warmup_steps = 0;
    config.train.checkpoint_every = 1;
    config.train.log_every = 1;
    config.train.sample_every = 0;
    config.train.max_bad_steps = 4;
    return config;
}

TEST(Trainer, StoppedAmidBadStepsItSaysWhichCheckpointIsThere) {
    const TemporaryFolder folder;
    const auto stop_amid_bad_steps = [&] {
        const auto lines = metrics(folder / "run");
        return lines.size() > 1 && lines.back()["loss"].is_null() && lines[lines.size() - 2]["loss"].is_null();
    };
    const int64_t saved = train_in(diverging(), folder / "run", stop_amid_bad_steps);
    EXPECT_EQ(metrics(folder / "run").back()["step"], saved + 2);
    EXPECT_EQ(load_checkpoint(folder / "run").step, saved);
}

TEST(Trainer, StepsWithoutAFiniteLossAreSkippedCountedAndInTheEndFatal) {
    const TemporaryFolder folder;
    const Config config = diverging();
    expect_contains(error_of([&] { train_in(config, folder / "run"); }), "in the last 4 steps");
    const Checkpoint kept = load_checkpoint(folder / "run");
    for (const auto* tensors : {&kept.model, &kept.training.momentum}) {
        for (const auto& [name, tensor] : *tensors) EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;
    }
    // Three bad steps follow the checkpoint, which is of the last good one; the fatal one has no line.
    const auto lines = metrics(folder / "run");
    EXPECT_EQ(lines.back()["step"], kept.step + 3);
    int64_t bad = 0;
    for (const auto& line : lines) {
        bad += line["loss"].is_null();
        EXPECT_EQ(line["bad_steps"], bad);
        EXPECT_TRUE(line["step"] <= kept.step || line["loss"].is_null());
    }
}

TEST(Trainer, CallsItsObserversInOrderAndNeedsNoFolder) {
    const Config config = small();
    std::vector<std::string> events;
    std::vector<double> losses;
    int64_t steps = 0;
    const auto happened = [&](const std::string& event, int64_t step) {
        EXPECT_EQ(step, steps) << event;
        events.push_back(event + " " + std::to_string(step));
    };
    const TrainingObserver own{
        .on_start = [&](const Config& resolved, const auto& start) { EXPECT_EQ(resolved.net.classes, 10); },
        .on_step = [&](const TrainingStep& step) { EXPECT_EQ(step.step, ++steps); },
        .on_metrics =
            [&](const Metrics& line) {
                happened("metrics", line.step);
                losses.push_back(line.loss);
            },
        .on_preview = [&](const Preview& preview) { happened("preview", preview.checkpoint.step); },
        .on_checkpoint = [&](const Checkpoint& checkpoint) { happened("checkpoint", checkpoint.step); }};
    const TrainingObserver idle;
    EXPECT_EQ(train_on_own(config, {idle, own}), 60);
    EXPECT_EQ(events, (std::vector<std::string>{"checkpoint 0", "metrics 10", "metrics 20", "metrics 30", "preview 30",
                                                "checkpoint 30", "metrics 40", "metrics 50", "metrics 60", "preview 60",
                                                "checkpoint 60"}));

    const TemporaryFolder folder;
    train_in(config, folder / "run");
    const auto lines = metrics(folder / "run");
    ASSERT_EQ(lines.size(), losses.size());
    for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i]["loss"], losses[i]) << i;
}

}  // namespace
}  // namespace diffuse
