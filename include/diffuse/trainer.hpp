#pragma once

#include <filesystem>
#include <functional>

#include "diffuse/checkpoint.hpp"
#include "diffuse/config.hpp"
#include "diffuse/dataset.hpp"

namespace diffuse {

/// Where a run keeps its files: config.json, metrics.jsonl, checkpoint.safetensors and samples/ in one folder.
struct RunFolder {
    std::filesystem::path path;
    /// Creates the folder. Throws Error when it already holds a run, unless `replace`, which removes that run's files.
    static RunFolder create(const std::filesystem::path& path, bool replace);
};

/// Trains a network as `config` says and fills the run folder: the resolved config, a line of metrics every log_every
/// steps, a grid of samples from the averaged weights every sample_every, a checkpoint every checkpoint_every and at
/// the end. Images, times and noise of a step are functions of (seed, step) alone (batch.hpp); the last digits of the
/// weights also depend on the thread count, which decides the order of sums, and dropout on it too. `stop` is asked
/// after every step; when it says so, a checkpoint is saved and training returns early. Returns the number of steps
/// taken. Throws Error (exit code 1), keeping the last checkpoint, when loss or gradient is no longer finite.
int64_t train(const Config& config, const Dataset& dataset, torch::Device device, const RunFolder& folder,
              const std::function<bool()>& stop);

}  // namespace diffuse
