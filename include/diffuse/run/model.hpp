#pragma once

#include <string>

#include "diffuse/diffusion/denoiser.hpp"
#include "diffuse/run/checkpoint.hpp"

namespace diffuse {

/// A network that is ready to use, what its input and output mean, and of which examples.
struct Model {
    Network network;
    Parameterization parameterization;
    Schedule schedule;
    ExampleShape shape;
    int64_t classes = 0;  ///< that the network knows; 0: it takes no labels
    int64_t given = 0;    ///< numbers that it has to be told of each example, instead of labels
    Denoiser exact = {};  ///< instead of the network, where it is set: a denoiser in closed form (analytic_model.hpp)
};

/// The network of a config, with random initial weights. Throws Error naming the key when it does not fit the images.
Net new_network(const Config& config, const ExampleShape& shape, int64_t given, torch::Device device);

/// A network with a checkpoint's averaged ("ema") or "raw" weights, on `device`, in evaluation mode. Throws Error as
/// `restore` does.
Net make_network(const Checkpoint& checkpoint, const std::string& weights, torch::Device device);
std::vector<std::string> weights_names();
bool has_weights(const Checkpoint& checkpoint, const std::string& weights);

/// "step 6800, ema weights, CRC-32 1a2b3c4d": tells one network from another.
std::string identity(const Checkpoint& checkpoint, const std::string& weights);

Model make_model(const Checkpoint& checkpoint, const std::string& weights, torch::Device device);

/// What the model says of noisy examples of a condition; with the evaluations of its network `counted`.
Denoiser denoiser(const Model& model, const Condition& condition = {});
Denoiser denoiser(const Model& model, std::atomic<int64_t>& evaluations, const Condition& condition = {});

}  // namespace diffuse
