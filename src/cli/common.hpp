#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "diffuse/run/sampling.hpp"

namespace diffuse::cli {

/// In the metadata of a file of latents: the options that made them, as JSON.
inline constexpr const char* kSamplingKey = "sampling";

void add_train(CLI::App& app);
void add_sample(CLI::App& app);
void add_encode(CLI::App& app);
void add_info(CLI::App& app);
void add_eval(CLI::App& app);

/// What sampling and encoding have in common on the command line.
struct SamplingCommand {
    std::string checkpoint, trajectory;
    SampleOptions sampling;
    void add_to(CLI::App& command);
};

/// The checkpoint of a file or run folder; what it is, and what it will run on, is logged.
Checkpoint load_to_run(const std::string& path, torch::Device device);

/// Throws Error when an output could not be written, or would overwrite another one or an input. Empty paths are none.
void check_outputs(const std::vector<std::string>& outputs, std::vector<std::string> inputs);

/// Throws unless x is float32 [N, C, H, W] with the image shape of the checkpoint; `what` names it.
void require_shape(const torch::Tensor& x, const ImageShape& shape, const std::string& what);

/// Files that were written, under the names that the JSON of the result gives them. Those without a path were not asked
/// for.
using Files = std::vector<std::pair<std::string, std::string>>;

/// The result: to stdout as one JSON object, or as lines of text; with the paths of the files.
void print_result(bool as_json, const nlohmann::ordered_json& json, const std::string& text, const Files& files = {});

}  // namespace diffuse::cli
