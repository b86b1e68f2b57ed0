#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/command.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/run/sampling.hpp"

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

/// What sampling and encoding have in common on the command line.
struct SamplingCommand {
    std::string command_line, checkpoint, trajectory;
    SampleOptions sampling;
    std::optional<int64_t> scale;
    RuntimeOptions runtime;
    bool json = false;

    /// Takes `base` for every option that the command line does not give. Returns whether it gives another value to
    /// one.
    bool take_defaults(const Given& given, const SampleOptions& base);
    /// What both write, and the machine.
    std::vector<Option> rest();
    /// How the files came about that are made by sampling in so many steps. Nothing of the command line, so that equal
    /// samples are equal files.
    PngTexts origin(int64_t steps, const Checkpoint& from) const;
    /// The same for an image, which tells the command line too.
    PngTexts with_command(PngTexts origin) const;
};

/// How it is sampled, encoded or decoded.
std::vector<Option> sampling_options(SampleOptions& sampling);

/// `said` with `base` for every option that the command line does not give.
SampleOptions with_given(const Given& given, const SampleOptions& said, SampleOptions base);

/// "1 image", "2 images"
std::string plural(int64_t count, const std::string& noun);

/// --checkpoint, --data and --json
Option checkpoint_option(std::string& path, const char* group);
Option data_option(std::string& folder, const char* group);
Option json_option(bool& json);

/// The data set that a network was trained on, in `folder` where that is not empty. Throws Error for a folder of data
/// that are drawn.
DatasetOptions data_of(const Checkpoint& checkpoint, const std::string& folder);
/// The checkpoint of a file or run folder; what it is, and what it will run on, is logged.
Checkpoint load_to_run(const std::string& path, torch::Device device);

/// Throws Error when an output could not be written, or would overwrite another one or an input. Empty paths are none.
void check_outputs(const std::vector<std::string>& outputs, std::vector<std::string> inputs);

/// Throws unless x is float32 [N, ...] with the shape of the checkpoint's examples; `what` names it.
void require_shape(const torch::Tensor& x, const ExampleShape& shape, const std::string& what);

/// What is known of each of a file's examples, as 'classes' or 'given'.
void add_condition(TensorFile& file, const Condition& condition);

/// Throws Error where an image is asked for that can only be drawn of images. Empty paths are none.
void check_no_images(const std::vector<std::string>& paths);

/// Files that were written, under the names that the JSON of the result gives them. Those without a path were not asked
/// for.
using Files = std::vector<std::pair<std::string, std::string>>;

/// One JSON object, or lines of text; with the paths of the files.
Result result_of(bool as_json, const nlohmann::ordered_json& json, const std::string& text, const Files& files = {});

}  // namespace diffuse::cli
