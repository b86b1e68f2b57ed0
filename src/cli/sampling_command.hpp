#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/common.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/run/defaults.hpp"
#include "diffuse/run/sampling.hpp"

namespace diffuse::cli {

/// What sampling and encoding have in common on the command line.
struct SamplingCommand {
    std::string command_line, checkpoint, trajectory;
    SampleOptions sampling;
    std::optional<int64_t> scale;
    RuntimeOptions runtime;
    bool json = false;

    /// What both write, and the machine.
    std::vector<Option> rest();
    /// How the files came about that are made by sampling in so many steps of a network. `made_from`: "checkpoint" or
    /// "data", and which. Nothing of the command line, so that equal samples are equal files.
    PngTexts origin(const std::pair<std::string, std::string>& made_from, int64_t steps, const ExampleShape& shape,
                    const std::string& network) const;
    /// The same for an image, which tells the command line too.
    PngTexts with_command(PngTexts origin) const;
    /// What the result says first, as JSON and as a text: how many, by which solver, in how many steps.
    nlohmann::ordered_json json_of(const Samples& made, int64_t steps) const;
    std::string text_of(const Samples& made, int64_t steps, const std::string& evaluation) const;
};

/// How it is sampled, encoded or decoded.
std::vector<Option> sampling_options(SampleOptions& sampling, const char* group_of_class = kHow);

/// What a command line gives of the options of sampling, as JSON: {"steps": 5}.
nlohmann::json said_of(const Given& given, SampleOptions options);

/// Writes tensors of one row an example, with what is known of each, as 'classes' or 'given', and how they were made.
void write_examples(const std::string& path, TensorFile file, const Condition& condition, const PngTexts& origin);

}  // namespace diffuse::cli
