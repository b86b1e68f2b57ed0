#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/sampling_command.hpp"
#include "diffuse/run/analytic_model.hpp"

namespace diffuse::cli {

/// What the command line of sample says.
struct SampleCommand : SamplingCommand {
    Given given;
    std::optional<int64_t> num;
    int64_t seed = 0, columns = 0;
    bool show_grid = false;
    std::string out = "samples.png", tensors, latents, condition;
    std::string analytic, config;
    std::vector<std::string> settings;
    std::string style = "auto";
    std::vector<double> field;

    bool writes_table() const;
    Files files() const;
};

/// What draws: a trained network, or a denoiser in closed form on the data and schedule of a config.
struct Source {
    SampleOptions sample;  ///< its own way of sampling
    DataSpec data;
    Schedule schedule;
    std::function<Model(const std::string& weights)> model;
    std::function<std::string(const std::string& weights)> identity;  ///< of the network
    std::pair<std::string, std::string> made_from;  ///< for what is written: "checkpoint" or "data", and which
};

/// Throws Error where the command line names none, or two.
Source load_source(const SampleCommand& options, torch::Device device);

/// A file of latents, which says by which network and options they were made.
struct Latents {
    std::string path;
    TensorFile file;

    /// The options that made them; none where the file does not tell.
    std::optional<SampleOptions> made_by() const;
    /// Whether it knows the class of each, of a network with classes.
    bool has_classes(const ConditionSpec& known) const;
    /// Warns where they were made with another network than `own` (its identity).
    void warn_of_other_network(const std::string& own) const;
    /// float32 [N, ...] of examples of this shape. Throws Error where they are not.
    torch::Tensor examples(const std::string& name, const ExampleShape& shape) const;
    /// What is known of each: as the command line says, else as the file does, else nothing.
    Condition condition(const SampleCommand& options, const ConditionSpec& known, int64_t count) const;
};

/// Throws Error where what is to be written is not of what is drawn, or cannot be drawn.
void check_files(const SampleCommand& options, const DataSpec& data);

/// Columns and scale of an image of images; of points nothing.
struct Layout {
    int64_t columns = 1, scale = 1;
};

/// Writes --save-tensors, if it is asked for. x: as the model draws, float32 [N, ...].
void write_tensors(const SampleCommand& options, const torch::Tensor& x, const Condition& condition,
                   const PngTexts& origin, const DataSpec& data);
/// Writes --out, what is to be seen. Throws Error as `write_figure` does.
void write_shown(const SampleCommand& options, const torch::Tensor& x, const Condition& condition, const Layout& shown,
                 const PngTexts& origin, const Model& model);

}  // namespace diffuse::cli
