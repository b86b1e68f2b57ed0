#include "diffuse/run/model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <map>

#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

/// A damaged config must not ask for a network larger than the file: each of its blocks has at least one 3x3
/// convolution from all its channels to as many.
void require_enough(const Checkpoint& checkpoint, const NamedTensors& weights) {
    const UNetOptions& model = checkpoint.config.unet;
    int64_t needed = 0, present = 0;
    for (const int64_t multiplier : model.channel_multipliers) {
        const int64_t width = model.base_channels * multiplier;
        needed += model.blocks_per_level * 9 * width * width;
    }
    for (const auto& [name, weight] : weights) present += weight.numel();
    if (needed > present) {
        throw Error(fmt::format("{}: its weights do not fit its config: {} numbers, where more than {} are needed",
                                checkpoint.name, present, needed));
    }
}

void require_finite(const Checkpoint& checkpoint, const NamedTensors& tensors) {
    for (const auto& [name, tensor] : tensors) {
        if (tensor.isfinite().all().item<bool>()) continue;
        throw Error(
            fmt::format("{}: its weights are not all finite ({} is not): the file was changed, or the run that "
                        "made it failed; take another checkpoint",
                        checkpoint.name, name));
    }
}

const Table<NamedTensors Checkpoint::*>& kinds_of_weights() {
    static const Table<NamedTensors Checkpoint::*> table = {{"ema", &Checkpoint::ema}, {"raw", &Checkpoint::model}};
    return table;
}

}  // namespace

bool has_weights(const Checkpoint& checkpoint, const std::string& weights) {
    return !(checkpoint.*look_up("weights", kinds_of_weights(), weights)).empty();
}

std::vector<std::string> weights_names() { return names(kinds_of_weights()); }

UNet new_network(const Config& config, const ImageShape& shape, torch::Device device) {
    return UNet(config.unet, shape, uint64_t(config.seed), device);
}

UNet make_network(const Checkpoint& checkpoint, const std::string& weights, torch::Device device) {
    const NamedTensors& stored = checkpoint.*look_up("weights", kinds_of_weights(), weights);
    if (stored.empty()) {
        throw Error(fmt::format("{}: it has no {} weights; take others by --weights ({} are known)", checkpoint.name,
                                weights, fmt::join(weights_names(), " and ")));
    }
    require_enough(checkpoint, stored);
    UNet network = new_network(checkpoint.config, checkpoint.shape, device);
    restore(network.named_parameters(), stored, checkpoint.name + ": its weights");
    require_finite(checkpoint, stored);
    network.set_training(false);
    network.freeze();
    return network;
}

std::string identity(const Checkpoint& checkpoint, const std::string& weights) {
    const NamedTensors& stored = checkpoint.*look_up("weights", kinds_of_weights(), weights);
    uLong crc = 0;
    for (const auto& [name, tensor] : std::map<std::string, torch::Tensor>(stored.begin(), stored.end())) {
        const auto data = tensor.contiguous();
        crc = crc32_z(crc, static_cast<const uint8_t*>(data.data_ptr()), data.nbytes());
    }
    return fmt::format("step {}, {} weights, CRC-32 {:08x}", checkpoint.step, weights, crc);
}

Model make_model(const Checkpoint& checkpoint, const std::string& weights, torch::Device device) {
    return {make_network(checkpoint, weights, device), make_parameterization(checkpoint.config.parameterization),
            make_schedule(checkpoint.config.schedule), checkpoint.shape, checkpoint.config.unet.classes.value_or(0)};
}

Denoiser denoiser(const Model& model, const Condition& condition) {
    return network_denoiser(model.network, model.parameterization, model.schedule, condition);
}

Denoiser denoiser(const Model& model, std::atomic<int64_t>& evaluations, const Condition& condition) {
    return network_denoiser(counted(model.network, evaluations), model.parameterization, model.schedule, condition);
}

}  // namespace diffuse
