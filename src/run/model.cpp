#include "diffuse/run/model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <map>

#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

/// Numbers that a network has at the least: each block of a U-Net has a 3x3 convolution from all its channels to as
/// many, each of an MLP a square matrix.
int64_t least_size(const NetOptions& net) {
    if (net.kind == "mlp") return net.mlp.blocks * net.mlp.width * net.mlp.width;
    int64_t size = 0;
    for (const int64_t multiplier : net.unet.channel_multipliers) {
        const int64_t width = net.unet.base_channels * multiplier;
        size += net.unet.blocks_per_level * 9 * width * width;
    }
    return size;
}

/// A damaged config must not ask for a network larger than the file.
void require_enough(const Checkpoint& checkpoint, const NamedTensors& weights) {
    const int64_t needed = least_size(checkpoint.config.net);
    int64_t present = 0;
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

Net new_network(const Config& config, const ExampleShape& shape, int64_t given, torch::Device device) {
    return make_net(config.net, shape, {config.net.classes.value_or(0), given}, uint64_t(config.seed), device);
}

Net make_network(const Checkpoint& checkpoint, const std::string& weights, torch::Device device) {
    const NamedTensors& stored = checkpoint.*look_up("weights", kinds_of_weights(), weights);
    if (stored.empty()) {
        throw Error(fmt::format("{}: it has no {} weights; take others by --weights ({} are known)", checkpoint.name,
                                weights, fmt::join(weights_names(), " and ")));
    }
    require_enough(checkpoint, stored);
    Net network = new_network(checkpoint.config, checkpoint.shape, std::ssize(checkpoint.given_columns), device);
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
            make_schedule(checkpoint.config.schedule), checkpoint.shape,
            checkpoint.config.net.classes.value_or(0), std::ssize(checkpoint.given_columns)};
}

Denoiser denoiser(const Model& model, const Condition& condition) {
    if (model.exact) return model.exact;
    return network_denoiser(model.network, model.parameterization, model.schedule, condition);
}

Denoiser denoiser(const Model& model, std::atomic<int64_t>& evaluations, const Condition& condition) {
    if (model.exact) return counted(model.exact, evaluations);
    return network_denoiser(counted(model.network, evaluations), model.parameterization, model.schedule, condition);
}

}  // namespace diffuse
