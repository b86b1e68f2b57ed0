#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace diffuse {

/// What a training run is made of. Each member is the JSON key of the same name, e.g. train.batch_size; meaning and
/// range of each stand once, in config.cpp, which reads, writes and documents them from there.
struct DatasetConfig {
    std::string kind = "mnist";
    std::string dir;
    int64_t limit = 0;
    int64_t seed = 0;
};

struct ScheduleConfig {
    std::string kind = "linear";
    int64_t steps = 1000;
    bool zero_terminal_snr = false;
};

struct ModelConfig {
    int64_t base_channels = 32;
    std::vector<int64_t> channel_multipliers = {1, 2};
    int64_t blocks_per_level = 1;
    std::vector<int64_t> attention_resolutions;
    double dropout = 0;
    int64_t patch_size = 1;
    std::string prediction = "eps";
    bool input_skip = true;
};

struct TrainConfig {
    int64_t steps = 5000;
    int64_t batch_size = 64;
    std::string weighting = "simple";
    double learning_rate = 1e-3;
    int64_t warmup_steps = 100;
    std::string decay = "cosine";
    double weight_decay = 0;
    double beta2 = 0.999;
    double gradient_clip = 1;
    double ema_decay = 0.999;
    int64_t max_bad_steps = 10;
    int64_t log_every = 50;
    int64_t sample_every = 1000;
    int64_t checkpoint_every = 1000;
    int64_t keep_checkpoints = 0;
};

struct Config {
    int64_t seed = 0;
    DatasetConfig dataset;
    ScheduleConfig schedule;
    ModelConfig model;
    TrainConfig train;
};

/// One row of the documentation of the keys.
struct ConfigKey {
    std::string path, default_value, range, meaning;
};

/// Strict: an unknown key, a wrong type or a value out of range throws Error naming the key by its path, what was
/// found and what is expected. Keys left out keep their defaults. Takes combinations that `load_config` refuses, since
/// checkpoints may have them.
Config config_from_json(const nlohmann::json& json);
nlohmann::ordered_json to_json(const Config& config);

/// Reads a JSON file; `settings` are "key.path=value", each replacing one key before the strict reading. A value is
/// JSON where it parses as JSON, else text: train.steps=100, model.channel_multipliers=[1,2], dataset.dir=/data. Throws
/// Error as above, and for values that do not go together.
Config load_config(const std::filesystem::path& path, const std::vector<std::string>& settings = {});

/// A config with such settings applied to it.
Config with_settings(const Config& config, const std::vector<std::string>& settings);

std::vector<ConfigKey> config_keys();

/// The keys on which two configs differ, with both values as JSON.
struct ConfigChange {
    std::string path, before, after;
};
std::vector<ConfigChange> changes(const Config& before, const Config& after);

}  // namespace diffuse
