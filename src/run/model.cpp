#include "diffuse/run/model.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <map>
#include <memory>
#include <mutex>

#include "diffuse/base/log.hpp"
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

Net new_network(const Config& config, const DataSpec& data, torch::Device device) {
    return make_net(config.net, data.shape, {data.condition.classes.count, std::ssize(data.condition.numbers)},
                    uint64_t(config.seed), device);
}

Net make_network(const Checkpoint& checkpoint, const std::string& weights, torch::Device device) {
    const NamedTensors& stored = checkpoint.*look_up("weights", kinds_of_weights(), weights);
    if (stored.empty()) {
        throw Error(fmt::format("{}: it has no {} weights; take other sample.weights ({} are known)", checkpoint.name,
                                weights, fmt::join(weights_names(), " and ")));
    }
    require_enough(checkpoint, stored);
    Net network = new_network(checkpoint.config, checkpoint.data, device);
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

Model model_of(Network network, const Parameterization& parameterization, const Schedule& schedule,
               const DataSpec& data, torch::Device device) {
    const auto denoiser = [=](const Condition& condition, const Counter& evaluations) {
        return network_denoiser(counted(network, evaluations), parameterization, schedule, condition);
    };
    return {denoiser, schedule, data, device};
}

namespace {

/// Says once what is asked of a network that it never saw in training: examples of a class, or of none. Here, where all
/// that samples or measures comes by.
Model warning_of_untrained(Model model, const Checkpoint& checkpoint) {
    const TrainedLabels trained = trained_labels(checkpoint.config);
    if (trained.classes && trained.none) return model;
    const int64_t none = model.data.condition.classes.count;
    const std::string message = fmt::format(
        "{}: this network was trained with train.label_dropout {}", checkpoint.name,
        trained.none ? "1 and never saw a class; what it draws of one means nothing"
                     : "0 and never saw an image of no class, as sample.class none draws and guidance leads away from");
    model.denoiser = [=, plain = model.denoiser, told = std::make_shared<std::once_flag>()](
                         const Condition& condition, const Counter& evaluations) {
        const auto& labels = condition.classes;
        const bool of_none = !labels.defined() || labels.eq(none).any().item<bool>();
        const bool of_class = labels.defined() && labels.lt(none).any().item<bool>();
        if ((of_none && !trained.none) || (of_class && !trained.classes)) {
            std::call_once(*told, [&] { log::warn(message); });
        }
        return plain(condition, evaluations);
    };
    return model;
}

}  // namespace

Model make_model(const Checkpoint& checkpoint, const std::string& weights, torch::Device device) {
    const Model model =
        model_of(make_network(checkpoint, weights, device), make_parameterization(checkpoint.config.parameterization),
                 make_schedule(checkpoint.config.schedule), checkpoint.data, device);
    return warning_of_untrained(model, checkpoint);
}

}  // namespace diffuse
