#pragma once

#include <functional>
#include <optional>
#include <string>

#include "diffuse/run/checkpoint.hpp"
#include "diffuse/run/metrics.hpp"
#include "diffuse/run/model.hpp"

namespace diffuse {

/// How a training stands after a step.
struct TrainingStep {
    int64_t step = 0;              ///< from 1
    double loss = 0;               ///< mean since the last line of metrics; not a number where no loss was finite
    double images_per_second = 0;  ///< since then
    std::string noun = "image";    ///< or "point"
};

/// What a preview is drawn from.
struct Preview {
    const Checkpoint& checkpoint;  ///< of this step
    const Model& averaged;         ///< the averaged weights
    const Condition& condition;    ///< of all training examples, as the network knows it
};

/// What a training calls at its events; what is not set does nothing. All on the thread that trains, where LibTorch
/// uses one CPU thread meanwhile. An Error that is thrown here ends the training.
struct TrainingObserver {
    /// Before all others: with the resolved config, and with the checkpoint that is resumed, if any.
    std::function<void(const Config& config, const std::optional<Checkpoint>& start)> on_start = [](auto&&...) {};
    /// After every step, before what is due at it.
    std::function<void(const TrainingStep& step)> on_step = [](auto&&...) {};
    /// Every log_every and validate_every steps, and at the end.
    std::function<void(const Metrics& line)> on_metrics = [](auto&&...) {};
    /// Every sample_every steps, and at the end.
    std::function<void(const Preview& preview)> on_preview = [](auto&&...) {};
    /// At step 0, every checkpoint_every steps and at the end, but never amid bad steps. Its tensors are those that are
    /// trained: they change at the next step.
    std::function<void(const Checkpoint& checkpoint)> on_checkpoint = [](auto&&...) {};
};

}  // namespace diffuse
