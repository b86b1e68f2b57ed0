#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "diffuse/config.hpp"
#include "diffuse/dataset.hpp"
#include "diffuse/unet.hpp"

namespace diffuse {

/// What training leaves behind: everything that sampling and encoding need, in one safetensors file. The weights are
/// the tensors model.<name> (raw) and ema.<name> (averaged), in PyTorch's names and shapes.
struct Checkpoint {
    Config config;
    ImageShape shape;
    int64_t step = 0;  ///< optimizer steps taken
    std::map<std::string, torch::Tensor> model, ema;
};

/// The file's name inside a run folder.
inline constexpr const char* kCheckpointName = "checkpoint.safetensors";

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// `path`: the file, or a run folder that holds one. Throws Error naming what is wrong.
Checkpoint load_checkpoint(const std::filesystem::path& path);

/// Named copies of a network's parameters.
std::map<std::string, torch::Tensor> weights_of(const UNet& network);

/// A network with the checkpoint's ema or raw weights, on `device`, in evaluation mode. Throws Error listing missing,
/// extra and misshaped tensors by name.
enum class Weights { kEma, kRaw };
UNet make_network(const Checkpoint& checkpoint, Weights weights, torch::Device device);

}  // namespace diffuse
