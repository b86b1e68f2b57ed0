#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "diffuse/base/file.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/run/checkpoint.hpp"
#include "diffuse/run/config.hpp"

namespace diffuse {

/// Names inside a run folder: the resolved config, and what was logged, which whoever runs a training opens (log.hpp).
inline constexpr const char *kConfigName = "config.json", *kLogName = "log.txt";

/// Where a run keeps its files: config.json, metrics.jsonl, log.txt, checkpoint.safetensors, samples/ and checkpoints/
/// in one folder, which no other training can enter while the object lives.
class RunFolder {
public:
    /// Creates the folder. Throws Error when it already holds a run, unless `replace`, which removes that run's files,
    /// and when another training is at work in it.
    static RunFolder create(const std::filesystem::path& path, bool replace);
    /// Opens the folder of a run to go on with it, and clears away what a killed save left. Throws Error as above.
    static RunFolder open(const std::filesystem::path& path);
    const std::filesystem::path& path() const { return path_; }

private:
    explicit RunFolder(const std::filesystem::path& path) : path_(path), lock_(path) {}
    std::filesystem::path path_;
    FolderLock lock_;
};

/// What changes in a run that goes on with another config. Throws Error naming a key that cannot change in mid-run: the
/// data set, schedule, model, seed and batch size.
std::vector<ConfigChange> allowed_changes(const Config& before, const Config& after);

/// Trains a network as `config` says and fills the run folder: the resolved config, a line of metrics every log_every
/// steps, a grid of samples from the averaged weights every sample_every, a checkpoint every checkpoint_every and at
/// the end. With `start`, a checkpoint of the same run, goes on from there, and ends with the same checkpoint, bit for
/// bit, as a run that was never interrupted, on the same build, device and thread count: images, times and noise of a
/// step are functions of (seed, step) alone (batch.hpp); the thread count decides the order of sums. `stop` is asked
/// after every step; when it says so, a checkpoint is saved (amid bad steps the one before them is kept) and training
/// returns early. Returns the step of the latest checkpoint, which is train.steps at the end.
/// Throws Error when `start` was trained on other data. Throws Error with exit code 1, keeping the last checkpoint,
/// when max_bad_steps steps in a row gave no finite loss and gradient, or when a file cannot be written.
int64_t train(const Config& config, const Dataset& dataset, torch::Device device, const RunFolder& folder,
              const std::optional<Checkpoint>& start, const std::function<bool()>& stop);

}  // namespace diffuse
