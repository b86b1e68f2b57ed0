#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/command.hpp"
#include "diffuse/run/checkpoint.hpp"

namespace diffuse::cli {

/// The commands, each described in its own file.
Command train_command(const std::string& line);
Command sample_command(const std::string& line);
Command encode_command(const std::string& line);
Command eval_command();
Command info_command();
Command lab_command();
Command help_command(const std::vector<std::string>& names);
Command completion_command();

/// --device, --threads, --quiet and --verbose
struct RuntimeOptions {
    std::string device = "auto";
    int64_t threads = 0;
    bool quiet = false, verbose = false;
    std::vector<Option> options();
    torch::Device apply() const;
};

/// "1 image", "2 images"
std::string plural(int64_t count, const std::string& noun);

/// --checkpoint, --data and --json
Option checkpoint_option(std::string& path);
Option data_option(std::string& folder);
Option json_option(bool& json);

/// The data set that a network was trained on, in `folder` where that is not empty. Throws Error for a folder of data
/// that are drawn.
DatasetOptions data_of(const Checkpoint& checkpoint, const std::string& folder);
/// The checkpoint of a file or run folder; what it is, and what it will run on, is logged.
Checkpoint load_to_run(const std::string& path, torch::Device device);

/// Files to write, under the names that the JSON of the result gives them. Those without a path were not asked for.
using Files = std::vector<std::pair<std::string, std::string>>;

/// Throws Error when a file could not be written, or would overwrite another one or an input. Empty paths are none.
void check_outputs(const Files& files, std::vector<std::string> inputs);

/// Throws Error for options that were given and are not of what the examples are, images or points.
void check_kind(const Given& given, const ExampleShape& shape, const std::vector<std::string>& of_images,
                const std::vector<std::string>& of_points = {});

/// One JSON object, or lines of text; with the paths of the files.
Result result_of(bool as_json, const nlohmann::ordered_json& json, const std::string& text, const Files& files = {});

}  // namespace diffuse::cli
