#pragma once

#include <functional>
#include <optional>

#include "diffuse/run/checkpoint.hpp"
#include "diffuse/run/run_folder.hpp"

namespace diffuse {

/// Trains a network as `config` says and fills the run folder: the resolved config, a line of metrics every log_every
/// steps, a grid of samples from the averaged weights every sample_every, a checkpoint every checkpoint_every and at
/// the end. With `start`, a checkpoint of the same run, continues from there, and ends with the same checkpoint, bit
/// for bit, as a run that was never interrupted, on the same build, device and thread count: images, times and noise of
/// a step are functions of (seed, step) alone (batch.hpp); the thread count decides the order of sums. `stop` is asked
/// after every step; when it says so, a checkpoint is saved (amid bad steps the one before them is kept) and training
/// returns early. Returns the step of the latest checkpoint, which is train.steps at the end.
/// Throws Error as `with_classes` does. Throws Error with exit code 1, keeping the last checkpoint, when max_bad_steps
/// steps in a row gave no finite loss and gradient, or when a file cannot be written. `start`, if any, must have been
/// trained on these data (`require_data_of`).
int64_t train(const Config& config, const Dataset& dataset, torch::Device device, const RunFolder& folder,
              const std::optional<Checkpoint>& start, const std::function<bool()>& stop);

/// Throws Error when a checkpoint was trained on other data.
void require_data_of(const Checkpoint& checkpoint, const Dataset& dataset);

}  // namespace diffuse
