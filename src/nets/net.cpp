#include "diffuse/nets/net.hpp"

#include <fmt/format.h>

#include "diffuse/base/error.hpp"
#include "nets/layers.hpp"

namespace diffuse {

Fields fields(NetOptions& o) {
    Fields all = {{"kind", Choice{&o.kind, {"unet", "mlp"}},
                   "network; unet: a U-Net, of images; mlp: a multilayer perceptron, of points"}};
    const auto add = [&](const std::string& kind, const Fields& own) {
        for (auto field : own) {
            field.belongs = {"kind", {kind}};
            all.push_back(std::move(field));
        }
    };
    add("unet", fields(o.unet));
    add("mlp", fields(o.mlp));
    all.push_back({"classes", NumberOrAuto{&o.classes, 0, 1000},
                   "number of classes of a class-conditional network; 0: unconditional; auto: as the data set has"});
    return all;
}

torch::Tensor Net::operator()(const NetworkInput& input) const { return modules_->forward(input, packs_); }

NamedTensors Net::named_parameters() const {
    NamedTensors result;
    for (const auto& item : modules_->named_parameters()) result.emplace_back(item.key(), item.value());
    return result;
}

std::vector<torch::Tensor> Net::parameters() const { return modules_->parameters(); }

int64_t Net::parameter_count() const {
    int64_t count = 0;
    for (const auto& parameter : parameters()) count += parameter.numel();
    return count;
}

bool Net::is_matrix(const std::string& name, const torch::Tensor& weight) const {
    return modules_->is_matrix(name, weight);
}

void Net::set_training(bool training) { modules_->train(training); }

Net Net::packed(bool backward, const ForEach& for_each) const {
    Net result = *this;
    const auto& program = modules_->program;
    if (program) result.packs_ = std::make_shared<const Packs>(program->pack(/*forward=*/true, backward, for_each));
    return result;
}

Net Net::with_packs_of(const Net& other) const {
    Net result = *this;
    result.packs_ = other.packs_;
    return result;
}

int64_t Net::part_size() const { return modules_->part_size(); }

void Net::freeze() {
    for (auto& parameter : parameters()) parameter.requires_grad_(false);
    *this = packed(/*backward=*/false);
}

void Net::seed_dropout(uint64_t seed) { modules_->generator.set_current_seed(seed); }

Net make_net(const NetOptions& options, const ExampleShape& shape, const ConditionSizes& condition, uint64_t seed,
             torch::Device device) {
    if (options.kind == "mlp") return make_mlp(options.mlp, shape.numel(), condition, seed, device);
    if (shape.points || condition.numbers > 0) {
        throw Error(fmt::format("config: model.kind unet is for images, and the data are {}; set it to mlp",
                                condition.numbers > 0 ? "drawn as numbers say" : to_string(shape)));
    }
    return make_unet(options.unet, shape, seed, device, condition.classes);
}

}  // namespace diffuse
