#pragma once

#include <functional>
#include <string>
#include <vector>

#include "diffuse/diffusion/denoiser.hpp"

namespace diffuse {

/// Examples to train on: each its own noise, added at its own level.
struct Batch {
    torch::Tensor x0, eps;  ///< float32 [N, ...]
    std::vector<NoiseLevel> levels;
    Condition condition = {};
    torch::Tensor directions = {};  ///< of sliced score matching: float32 [N, M, ...], entries -1 or 1
};

/// What training makes small: a number for each example, float32 [N], differentiable in the network's weights.
using Objective = std::function<torch::Tensor(const Network& network, const Batch& batch)>;

/// The DDPM loss (Ho et al. 2020, eq. 14): the mean over the numbers of each example of the squared error of eps at
/// x_t, weighted by noise level (the table of weightings in objective.cpp), whatever the network predicts. Levels are
/// trained ones, `normalised`.
/// Throws Error for an unknown weighting.
Objective ddpm_loss(const Parameterization& parameterization, const Schedule& schedule,
                    const std::string& weighting = "simple");
std::vector<std::string> weighting_names();
/// Those that grow as 1 / alpha^2, and so teach something where alpha is next to nothing: there the error of eps is
/// alpha times that of what the network says.
std::vector<std::string> weightings_to_pure_noise();

/// The objectives of training by name (the table in objective.cpp), all in the unit of the DDPM loss at each level,
/// whose weights they take.
/// Throws Error for an unknown name.
Objective make_objective(const std::string& name, const Parameterization& parameterization, const Schedule& schedule,
                         const std::string& weighting = "simple");
std::vector<std::string> objective_names();

/// What an objective needs.
struct ObjectiveNeeds {
    bool second_derivatives = false;
    bool directions = false;
};
ObjectiveNeeds needs_of(const std::string& objective);

/// The weight of the squared error of the network's output at t in [1, T], which for each parameterization is a
/// multiple of the error of eps. Where a path ends in pure noise and the weight has no bound, it is that of one time
/// before.
std::function<double(double t)> output_weight(const Parameterization& parameterization, const Schedule& schedule,
                                              const std::string& weighting);

}  // namespace diffuse
