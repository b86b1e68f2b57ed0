#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/common.hpp"
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
};

/// What draws: a trained network, or a denoiser in closed form on the data and schedule of a config.
struct Source {
    std::string name;      ///< of its file, for messages
    SampleOptions sample;  ///< its own way of sampling
    DataSpec data;
    Schedule schedule;
    std::function<Model(const std::string& weights)> model;
    std::function<std::string(const std::string& weights)> identity;  ///< of the network
    std::pair<std::string, std::string> made_from;  ///< for what is written: "checkpoint" or "data", and which
};

Source load_source(const SampleCommand& options, torch::Device device);

/// Throws Error where what is to be written is not of what is drawn.
void check_kind_of_files(const SampleCommand& options, const DataSpec& data);

/// Samples as a network draws them, z float32 [N, D], of a condition: to --out, as a table or as an image with the
/// score at the noise levels of --field.
void write_points(const SampleCommand& options, const torch::Tensor& z, const Condition& condition, const Model& model);

}  // namespace diffuse::cli
