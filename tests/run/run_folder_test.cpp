#include "diffuse/run/run_folder.hpp"

#include "diffuse/run/model.hpp"
#include "testing.hpp"
#include "training.hpp"

namespace diffuse {
namespace {

namespace fs = std::filesystem;

TEST(RunFolder, IsNeverOverwrittenUnasked) {
    const TemporaryFolder folder;
    RunFolder::create(folder / "run", false);
    write_file(folder / "run" / "metrics.jsonl", "old");
    write_file(folder / "run" / "mine.txt", "keep");
    expect_contains(error_of([&] { RunFolder::create(folder / "run", false); }), "already holds a run");
    RunFolder::create(folder / "run", true);
    EXPECT_FALSE(std::filesystem::exists(folder / "run" / "metrics.jsonl"));
    EXPECT_TRUE(std::filesystem::exists(folder / "run" / "mine.txt"));
}

TEST(RunFolder, BeginsWithoutWhatAKilledBeginningLeft) {
    const TemporaryFolder folder;
    std::filesystem::create_directory(folder / "run");
    write_file(folder / "run" / "config.json.123.tmp", "{");
    write_file(folder / "run" / "mine.tmp", "keep");
    RunFolder::create(folder / "run", false);
    EXPECT_FALSE(std::filesystem::exists(folder / "run" / "config.json.123.tmp"));
    EXPECT_TRUE(std::filesystem::exists(folder / "run" / "mine.tmp"));
}

TEST(RunFolder, HasRoomForOneTrainingAtATime) {
    const TemporaryFolder folder;
    {
        const auto held = RunFolder::create(folder / "run", false);
        write_file(folder / "run" / "config.json", "{}");
        expect_contains(error_of([&] { RunFolder::create(folder / "run", true); }), "another training is at work");
        expect_contains(error_of([&] { RunFolder::open(folder / "run"); }), "another training is at work");
        EXPECT_TRUE(path_exists(folder / "run" / "config.json"));
    }
    RunFolder::open(folder / "run");
}

TEST(RunFolder, OpensRunsOnly) {
    const TemporaryFolder folder;
    expect_contains(error_of([&] { RunFolder::open(folder.path()); }), "holds no run");
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(RunFolder, RefusesToReplaceAFolderByAFile) {
    const TemporaryFolder folder;
    fs::create_directories(folder / "run" / kCheckpointName / "mine");
    expect_contains(error_of([&] { RunFolder::create(folder / "run", true); }), "is a folder, where a file");
    EXPECT_TRUE(path_exists(folder / "run" / kCheckpointName / "mine"));
}

/// A run that has saved at steps 10, 20, ..., with a line of metrics and an image at each, and kept copies.
class Resuming : public testing::Test {
protected:
    Resuming() : run(RunFolder::create(path, false)) {
        write_file(path / kConfigName, to_json(tiny_config()).dump());
        LineFile metrics(path / kMetricsName);
        for (int64_t step = 10; step <= 40; step += 10) {
            metrics.append("{\"step\": " + std::to_string(step) + "}");
            write_file(path / kSamplesName / step_name(step, ".png"), "image");
            run.save(at(step), /*copies=*/3);
        }
    }
    static Checkpoint at(int64_t step) {
        const auto weights = make_unet(tiny_config().net.unet, {}, 0, torch::kCPU).named_parameters();
        return {tiny_config(), {}, step, weights, weights, {0, 0.5, {}, "data", "machine", weights, weights, weights}};
    }
    fs::path copy(int64_t step) const { return path / "checkpoints" / step_name(step, ".safetensors"); }
    int64_t resumed() const { return run.checkpoint_to_resume(path)->step; }

    const TemporaryFolder folder;
    const fs::path path = folder / "run";
    const RunFolder run;
};

TEST_F(Resuming, KeepsTheLatestCopiesWithoutTakingRoomTwice) {
    EXPECT_FALSE(path_exists(copy(10)));
    for (const int64_t step : {20, 30, 40}) EXPECT_EQ(load_checkpoint(copy(step)).step, step);
    EXPECT_EQ(resumed(), 40);
    EXPECT_EQ(fs::hard_link_count(path / kCheckpointName), 2u);
    fs::remove(copy(40));
    run.keep_copy(40, 3);  // as after a kill between the two
    EXPECT_EQ(load_checkpoint(copy(40)).step, 40);
}

TEST_F(Resuming, TakesTheNewestWholeCopyWhereTheCheckpointIsLostOrDamaged) {
    fs::remove(path / kCheckpointName);
    EXPECT_EQ(resumed(), 40);
    write_file(path / kCheckpointName, "damaged");
    EXPECT_EQ(resumed(), 40);
    write_file(copy(40), "damaged too");
    EXPECT_EQ(resumed(), 30);
    for (const int64_t step : {20, 30}) fs::remove(copy(step));
    expect_contains(error_of([&] { resumed(); }), "checkpoint.safetensors: not a valid safetensors file");
    expect_contains(error_of([&] { resumed(); }), "no whole copy was kept");
    fs::remove(path / kCheckpointName);
    fs::remove(copy(40));
    expect_contains(error_of([&] { resumed(); }), "is lost, and no whole copy was kept");
    EXPECT_GT(fs::file_size(path / kMetricsName), 0u);
}

TEST_F(Resuming, BeginsWithTheFirstStepWhereNothingWasSavedYet) {
    const RunFolder fresh = RunFolder::create(folder / "fresh", false);
    EXPECT_FALSE(fresh.checkpoint_to_resume(folder / "fresh"));
}

TEST_F(Resuming, GoingBackKeepsWhatCameAfterAsARunOfItsOwn) {
    const Checkpoint start = *run.checkpoint_to_resume(copy(20));
    EXPECT_EQ(start.step, 20);
    const fs::path abandoned = run.go_back_to(start);
    EXPECT_EQ(abandoned, path / "abandoned" / "1");
    EXPECT_EQ(resumed(), 20);
    EXPECT_FALSE(path_exists(copy(30)) || path_exists(copy(40)));
    EXPECT_FALSE(path_exists(path / kSamplesName / step_name(30, ".png")));
    run.save(at(21), 3);  // an older step than those of the future that was left, and yet the newest
    EXPECT_TRUE(path_exists(copy(20)) && path_exists(copy(21)));
    fs::remove(path / kCheckpointName);
    EXPECT_EQ(resumed(), 21);

    const RunFolder other = RunFolder::open(abandoned);
    EXPECT_EQ(other.checkpoint_to_resume(abandoned)->step, 40);
    EXPECT_EQ(read_file(abandoned / kMetricsName, 1000), read_file(path / kMetricsName, 1000));
    EXPECT_TRUE(path_exists(abandoned / kSamplesName / step_name(30, ".png")));
}

TEST_F(Resuming, GoingOnLeavesNothingAside) {
    EXPECT_TRUE(run.go_back_to(at(40)).empty());
    EXPECT_FALSE(path_exists(path / "abandoned"));
}

TEST_F(Resuming, ReplacingARunTakesItsAbandonedFuturesToo) {
    run.go_back_to(at(10));
    write_file(path / "abandoned" / "1" / "notes.txt", "mine");
    run.save(at(50), 3);
    run.go_back_to(at(20));
    EXPECT_TRUE(path_exists(path / "abandoned" / "2"));
    fs::remove(path / ".lock");  // which this test holds
    RunFolder::create(path, true);
    EXPECT_TRUE(path_exists(path / "abandoned" / "1" / "notes.txt"));
    EXPECT_FALSE(path_exists(path / "abandoned" / "1" / kCheckpointName));
    EXPECT_FALSE(path_exists(path / "abandoned" / "2"));
}

TEST_F(Resuming, OfACheckpointWithoutTheOptimizersStateIsRefusedByName) {
    Checkpoint stripped = at(40);
    stripped.training.mean.clear();
    save_checkpoint(folder / "run" / kCheckpointName, stripped);
    for (const int64_t step : {20, 30, 40}) fs::remove(copy(step));
    expect_contains(error_of([&] { resumed(); }), "checkpoint.safetensors: it has no 'adamw.mean.' tensors");
}

TEST_F(Resuming, SavesWhereTheFolderWasMovedTo) {
    fs::rename(path, folder / "elsewhere");
    RunFolder::create(path, false);
    run.save(at(50), 0);
    EXPECT_EQ(load_checkpoint(folder / "elsewhere").step, 50);
    EXPECT_FALSE(path_exists(path / kCheckpointName));
    fs::remove_all(folder / "elsewhere");
    expect_contains(error_of([&] { run.save(at(60), 0); }), "it was removed, or another folder took its place");
}

TEST(Model, OfWeightsThatAreNotThereOrNotFiniteIsRefusedByName) {
    const TemporaryFolder folder;
    const Config config = tiny_config();
    auto weights = make_unet(config.net.unet, {}, 0, torch::kCPU).named_parameters();
    for (auto& [name, weight] : weights) weight = weight.detach().clone();
    const auto load = [&](const NamedTensors& model, const NamedTensors& ema, const std::string& which) {
        save_checkpoint(folder / "file", {config, {}, 1, model, ema, {}});
        make_network(load_checkpoint(folder / "file"), which, torch::kCPU);
    };
    load({}, weights, "ema");  // a file of averages alone can be sampled
    expect_contains(error_of([&] { load({}, weights, "raw"); }), "/file: it has no raw weights");
    weights[0].second.view({-1})[0] = std::numeric_limits<float>::quiet_NaN();
    expect_contains(error_of([&] { load({}, weights, "ema"); }), "/file: its weights are not all finite");
}

}  // namespace
}  // namespace diffuse
