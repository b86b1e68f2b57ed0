#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace diffuse {

/// A part of the trained levels: t from T i / 10 to T (i + 1) / 10.
inline constexpr size_t kLevelBins = 10;

/// Sums since the last line of metrics, over the steps whose loss and gradient were finite.
struct MetricsWindow {
    double loss = 0, grad_norm = 0;
    int64_t steps = 0;
    std::vector<double> level_loss = std::vector<double>(kLevelBins),
                        level_count = level_loss;  ///< of examples, by level

    /// Adds a step: the mean loss of its batch, and the norm of its gradient.
    void add_step(double batch_loss, double norm);
    /// Adds the loss of an example whose level lies at `position` of all trained ones, from 0 to 1.
    void add_example(double position, double example_loss);

    /// Means over the steps and, by their level, over the examples. Not a number where there are none.
    double mean_loss() const { return loss / double(steps); }
    double mean_grad_norm() const { return grad_norm / double(steps); }
    std::array<double, kLevelBins> mean_level_loss() const;
};

/// A line of metrics. Means are over the steps since the line before whose loss and gradient were finite; they are not
/// a number where there are none.
struct Metrics {
    int64_t step = 0, images = 0;                 ///< taken and shown so far
    double loss = 0;                              ///< mean
    std::array<double, kLevelBins> level_loss{};  ///< mean, by level
    std::optional<double> validation_loss = {};   ///< of the averaged weights, where it is due
    double grad_norm = 0;                         ///< mean, before clipping
    double learning_rate = 0;                     ///< of this step
    int64_t bad_steps = 0;                        ///< skipped so far
    double images_per_second = 0;                 ///< since the line before
    double wall_seconds = 0;                      ///< since the training began or was resumed
};

/// The line as metrics.jsonl has it. What is not a number becomes null when it is written.
nlohmann::ordered_json to_json(const Metrics& metrics);

}  // namespace diffuse
