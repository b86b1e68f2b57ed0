#pragma once

#include <string>

#include "diffuse/diffusion/denoiser.hpp"
#include "diffuse/run/checkpoint.hpp"

namespace diffuse {

/// What is ready to denoise examples, a network or a closed form alike, and what those are.
struct Model {
    /// The denoiser of examples of a condition: of all in a batch, on the model's device. What it takes is counted.
    std::function<Denoiser(const Condition& condition, const Counter& evaluations)> denoiser;
    Schedule schedule;
    DataSpec data;
    torch::Device device = torch::kCPU;
};

/// That of a network, which must live on `device`.
Model model_of(Network network, const Parameterization& parameterization, const Schedule& schedule,
               const DataSpec& data, torch::Device device);

/// The network of a config, with random initial weights. Throws Error naming the key when it does not fit the images.
Net new_network(const Config& config, const DataSpec& data, torch::Device device);

/// A network with a checkpoint's averaged ("ema") or "raw" weights, on `device`, in evaluation mode. Throws Error as
/// `restore` does.
Net make_network(const Checkpoint& checkpoint, const std::string& weights, torch::Device device);
std::vector<std::string> weights_names();
bool has_weights(const Checkpoint& checkpoint, const std::string& weights);

/// "step 6800, ema weights, CRC-32 1a2b3c4d": tells one network from another.
std::string identity(const Checkpoint& checkpoint, const std::string& weights);

/// Warns, once, where it is asked for what the network was never trained on (`trained_labels`).
Model make_model(const Checkpoint& checkpoint, const std::string& weights, torch::Device device);

}  // namespace diffuse
