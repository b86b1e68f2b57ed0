#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "diffuse/run/config.hpp"
#include "diffuse/run/metrics.hpp"

namespace diffuse {

/// What only a continued training needs. There is no generator in it: all that is drawn is a function of (seed, step).
struct TrainingState {
    int64_t bad_steps = 0;       ///< steps skipped because loss or gradient was not finite
    std::optional<double> loss;  ///< of the last line of metrics
    MetricsWindow window;
    std::string fingerprint, machine;  ///< of the data set; `describe` of the device
    /// What the optimizers remember of each weight that they train: AdamW's running means, Muon's momentum.
    NamedTensors mean, square, momentum;
};

/// What training leaves behind: everything that sampling, encoding and resuming need, in one
/// safetensors file. Its tensors are model.<name> (the weights), ema.<name> (their average), adamw.mean.<name>,
/// adamw.square.<name> and muon.momentum.<name>, in PyTorch's names and shapes.
struct Checkpoint {
    Config config;
    DataSpec data;     ///< as the network sees them
    int64_t step = 0;  ///< optimizer steps taken
    NamedTensors model, ema;
    TrainingState training;
    std::string name = "";  ///< the file it was loaded from, for messages
};

/// The file's name inside a run folder.
inline constexpr const char* kCheckpointName = "checkpoint.safetensors";

/// The checkpoint's file: `path` itself, or the one inside when it is a run folder.
std::filesystem::path checkpoint_file(const std::filesystem::path& path);

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// `path`: the file, or a run folder that holds one. Throws Error naming what is wrong.
Checkpoint load_checkpoint(const std::filesystem::path& path);

/// As `load_checkpoint`. Throws Error too where the file lacks what only training needs.
Checkpoint load_to_resume(const std::filesystem::path& path);

/// Copies each tensor of `from` into the one of the same name. Throws Error, beginning with `what`, that lists missing,
/// extra and misshaped tensors by name.
void restore(const NamedTensors& into, const NamedTensors& from, const std::string& what);

}  // namespace diffuse
