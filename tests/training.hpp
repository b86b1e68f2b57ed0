#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "diffuse/base/file.hpp"
#include "diffuse/run/run_writer.hpp"
#include "diffuse/run/trainer.hpp"

namespace diffuse {

/// A U-Net of the smallest size.
inline Config tiny_config() {
    Config config;
    config.net.unet = {.base_channels = 8, .channel_multipliers = {1}, .patch_size = 4};
    return config;
}

/// To be trained on the data of these options, in so many steps, with all that is due at some of them.
inline Config training_config(const DatasetOptions& data, int64_t steps) {
    Config config;
    config.dataset = data;
    config.net.unet = {.base_channels = 16, .channel_multipliers = {1}, .patch_size = 4};
    config.train.steps = steps;
    config.train.batch_size = 16;
    config.train.warmup_steps = 10;
    config.train.log_every = 10;
    config.train.sample_every = steps / 2;
    config.train.checkpoint_every = steps / 2;
    return config;
}

inline bool never() { return false; }
inline std::function<bool()> after(int steps) {
    return [steps, asked = 0]() mutable { return ++asked > steps; };
}

/// On the data set of the config.
inline int64_t train_on_own(const Config& config, const std::vector<TrainingObserver>& observers,
                            const std::optional<Checkpoint>& start = {}, const std::function<bool()>& stop = never,
                            torch::Device device = torch::kCPU) {
    const Dataset data = load_dataset(config.dataset, Split::kTrain);
    return train(resolved(config, data), data, device, observers, start, stop);
}

/// In a folder: a new run, or one that goes on where there is one.
inline int64_t train_in(const Config& config, const std::filesystem::path& path,
                        const std::function<bool()>& stop = never) {
    const bool is_new = !path_exists(path);
    const auto folder = is_new ? RunFolder::create(path, /*replace=*/false) : RunFolder::open(path);
    const auto start = is_new ? std::nullopt : std::optional(load_checkpoint(path));
    return train_on_own(config, {run_writer(folder)}, start, stop);
}

inline std::string checkpoint_bytes(const std::filesystem::path& path) {
    return read_file(path / kCheckpointName, 1 << 26);
}

}  // namespace diffuse
