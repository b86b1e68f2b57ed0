#include "diffuse/nets/net.hpp"

#include <fmt/format.h>

#include "diffuse/base/error.hpp"

namespace diffuse {

Fields fields(NetOptions& o) {
    Fields all = {{"kind", Choice{&o.kind, {"unet", "mlp"}},
                   "network; unet: a U-Net, of images; mlp: a multilayer perceptron, of points"}};
    for (auto& field : fields(o.unet)) {
        field.belongs = {"kind", {"unet"}};
        all.push_back(std::move(field));
    }
    for (auto& field : fields(o.mlp)) all.push_back(std::move(field));
    all.push_back({"classes", NumberOrAuto{&o.classes, 0, 1000},
                   "number of classes of a class-conditional network; 0: unconditional; auto: as the data set has"});
    return all;
}

torch::Tensor Net::operator()(const NetworkInput& input) const {
    return std::visit([&](const auto& net) { return net(input); }, net_);
}

NamedTensors Net::named_parameters() const {
    return std::visit([](const auto& net) { return net.named_parameters(); }, net_);
}

std::vector<torch::Tensor> Net::parameters() const {
    return std::visit([](const auto& net) { return net.parameters(); }, net_);
}

int64_t Net::parameter_count() const {
    int64_t count = 0;
    for (const auto& parameter : parameters()) count += parameter.numel();
    return count;
}

bool Net::is_matrix(const std::string& name, const torch::Tensor& weight) const {
    return std::visit([&](const auto& net) { return net.is_matrix(name, weight); }, net_);
}

void Net::set_training(bool training) {
    std::visit([=](auto& net) { net.set_training(training); }, net_);
}

void Net::freeze() {
    std::visit([](auto& net) { net.freeze(); }, net_);
}

void Net::seed_dropout(uint64_t seed) {
    std::visit([=](auto& net) { net.seed_dropout(seed); }, net_);
}

Net make_net(const NetOptions& options, const ExampleShape& shape, const ConditionSizes& condition, uint64_t seed,
             torch::Device device) {
    if (options.kind == "mlp")
        return Mlp(options.mlp, shape.numel(), condition.classes, condition.numbers, seed, device);
    if (shape.points || condition.numbers > 0) {
        throw Error(fmt::format("config: model.kind unet is for images, and the data are {}; set it to mlp",
                                condition.numbers > 0 ? "drawn as numbers say" : to_string(shape)));
    }
    return UNet(options.unet, shape, seed, device, condition.classes);
}

}  // namespace diffuse
