#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/run/sampling.hpp"

namespace diffuse::cli {

/// What a command has to say on stdout.
struct Result {
    std::string text;
    std::string failure = {};  ///< what went wrong all the same, to be said after the text (exit code 1)
};

/// Each adds a command to the program, which leaves its result in `result`. `command_line`: as the user typed it, for
/// the files that tell how they were made.
void add_train(CLI::App& app, Result& result, const std::string& command_line);
void add_sample(CLI::App& app, Result& result, const std::string& command_line);
void add_encode(CLI::App& app, Result& result, const std::string& command_line);
void add_eval(CLI::App& app, Result& result);
void add_info(CLI::App& app, Result& result);
void add_lab(CLI::App& app, Result& result);
void add_help(CLI::App& app, Result& result);
void add_completion(CLI::App& app, Result& result);

/// What sampling and encoding have in common on the command line.
struct SamplingCommand {
    std::string command_line, checkpoint, trajectory;
    SampleOptions sampling;
    std::optional<int64_t> scale;
    RuntimeOptions runtime;
    bool json = false;

    /// Takes `base` for every option that the command line does not give. Returns whether it gives another value to
    /// one.
    bool take_defaults(const CLI::App& command, const SampleOptions& base, const std::string& what);
    /// What is sampled and how; `group`: that of what the command works on.
    void add_to(CLI::App& command, const char* group);
    /// What both write, and the machine; to be added after what one of them writes.
    void add_rest(CLI::App& command);
    /// How the files came about that are made by sampling in so many steps. Nothing of the command line, so that equal
    /// samples are equal files.
    PngTexts origin(int64_t steps, const Checkpoint& from) const;
    /// The same for a picture, which tells the command line too.
    PngTexts with_command(PngTexts origin) const;
};

/// `given` with `base` for every option that the command line does not give.
SampleOptions with_given(const CLI::App& command, const SampleOptions& given, SampleOptions base,
                         const std::string& what);

/// "1 image", "2 images"
std::string plural(int64_t count, const std::string& noun);

/// --checkpoint
void add_checkpoint(CLI::App& command, std::string& path, const char* group);
/// --data
void add_data(CLI::App& command, std::string& folder, const char* group);
/// The data set that a network was trained on, in `folder` where that is not empty. Throws Error for a folder of data
/// that are drawn.
DatasetOptions data_of(const Checkpoint& checkpoint, const std::string& folder);
/// --json
void add_json(CLI::App& command, bool& json);

/// The checkpoint of a file or run folder; what it is, and what it will run on, is logged.
Checkpoint load_to_run(const std::string& path, torch::Device device);

/// Throws Error when an output could not be written, or would overwrite another one or an input. Empty paths are none.
void check_outputs(const std::vector<std::string>& outputs, std::vector<std::string> inputs);

/// Throws unless x is float32 [N, ...] with the shape of the checkpoint's examples; `what` names it.
void require_shape(const torch::Tensor& x, const ExampleShape& shape, const std::string& what);

/// What is known of each of a file's examples, as 'classes' or 'given'.
void add_condition(TensorFile& file, const Condition& condition);

/// Throws Error where a picture is asked for that can only be drawn of pictures. Empty paths are none.
void check_no_pictures(const std::vector<std::string>& paths);

/// Files that were written, under the names that the JSON of the result gives them. Those without a path were not asked
/// for.
using Files = std::vector<std::pair<std::string, std::string>>;

/// One JSON object, or lines of text; with the paths of the files.
Result result_of(bool as_json, const nlohmann::ordered_json& json, const std::string& text, const Files& files = {});

}  // namespace diffuse::cli
