#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "diffuse/base/error.hpp"
#include "diffuse/run/training_observer.hpp"

namespace diffuse {

/// The last steps gave no finite loss and gradient: max_bad_steps of them, or all that were left. Exit code 1.
struct Diverged : Error {
    explicit Diverged(const std::string& message) : Error(message, kRunFailed) {}
};

/// Trains a network as `config` says, which must be `resolved` for the data set. What comes of it is up to the
/// observers, which are called one after the other at each event; without any, nothing is kept. With `start`, a
/// checkpoint of the same run, continues from there, and ends with the same checkpoint, bit for bit, as a run that was
/// never interrupted, on the same build, device and thread count: images, times and noise of a step are functions of
/// (seed, step) alone (batch.hpp); the thread count decides the order of sums. `stop` is asked before every step. When
/// it says so, a last checkpoint is due, but none amid bad steps, and training returns early. Returns the step of the
/// latest checkpoint, which is train.steps at the end. Throws Error as `require_data_of`, before anything is observed,
/// and as the observers do. Throws Diverged.
int64_t train(
    const Config& config, const Dataset& dataset, torch::Device device, const std::vector<TrainingObserver>& observers,
    const std::optional<Checkpoint>& start = {}, const std::function<bool()>& stop = [] { return false; });

/// Throws Error when a checkpoint was trained on other data.
void require_data_of(const Checkpoint& checkpoint, const Dataset& dataset);

}  // namespace diffuse
