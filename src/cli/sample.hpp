#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/common.hpp"
#include "diffuse/run/analytic_model.hpp"

namespace diffuse::cli {

/// What the command line of sample says.
struct SampleCommand : SamplingCommand {
    const CLI::App* command = nullptr;
    std::optional<int64_t> num;
    int64_t seed = 0, columns = 0;
    bool show_grid = false;
    std::string out = "samples.png", tensors, latents, given;
    std::string analytic, config;
    std::vector<std::string> settings;
    std::optional<std::string> style;
    std::vector<double> field;
};

/// What draws: a trained network, or a denoiser in closed form on the data and schedule of a config.
struct Source {
    Checkpoint checkpoint;  ///< without weights where the model is in closed form
    std::optional<Model> exact;
    Model model(const std::string& weights, torch::Device device) const {
        return exact ? *exact : make_model(checkpoint, weights, device);
    }
};

Source load_source(const SampleCommand& options, torch::Device device);

/// The numbers that the network is told of each of `count` points: "y1=0.3,y2=-1", each column once. Not defined for a
/// network that is told none. Throws Error for numbers that are missing, unknown or none.
Condition given_numbers(const SampleCommand& options, const Checkpoint& checkpoint, int64_t count);

/// Throws Error where what is to be written is not of what is drawn.
void check_kind_of_files(const SampleCommand& options, const Checkpoint& checkpoint);

/// Samples as a network draws them, z float32 [N, D], of a condition: to --out, as a table or as a picture with the
/// score at the levels of --field.
void write_points(const SampleCommand& options, const torch::Tensor& z, const Condition& condition, const Model& model,
                  const Columns& columns, torch::Device device);

}  // namespace diffuse::cli
