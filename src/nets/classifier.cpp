#include "diffuse/nets/classifier.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/base/tensor_file.hpp"

// The file's bytes, from cmake/EmbedFile.cmake.
extern const unsigned char kClassifierBytes[];
extern const std::size_t kClassifierBytesSize;

namespace diffuse {
namespace {

constexpr int64_t kSide = 28, kFeatures = 64, kDigits = 10;
constexpr int64_t kGroup =
    32;  // images classified at once: enough to keep a core busy, few enough to stay in its caches

/// Name and weight's shape of each layer: [out, in, kernel, kernel] or [out, in].
struct Layer {
    const char* name;
    std::vector<int64_t> shape;
};
const std::vector<Layer>& layers() {
    static const std::vector<Layer> list = {{"conv1", {24, 1, 3, 3}},         {"conv2", {24, 24, 3, 3}},
                                            {"conv3", {48, 24, 3, 3}},        {"conv4", {48, 48, 3, 3}},
                                            {"conv5", {kFeatures, 48, 3, 3}}, {"linear", {kDigits, kFeatures}}};
    return list;
}

}  // namespace

Classifier::Classifier() {
    for (const auto& [name, shape] : layers()) {
        parameters_.emplace_back(fmt::format("{}.weight", name), torch::zeros(shape));
        parameters_.emplace_back(fmt::format("{}.bias", name), torch::zeros(shape.front()));
    }
}

Classifier Classifier::pretrained() {
    const TensorFile file =
        parse_tensor_file({reinterpret_cast<const char*>(kClassifierBytes), kClassifierBytesSize}, kClassifierName);
    Classifier classifier;
    for (auto& [name, tensor] : classifier.parameters_) {
        const auto& stored = file.tensors.at(name);
        TORCH_INTERNAL_ASSERT(stored.sizes() == tensor.sizes() && stored.dtype() == tensor.dtype(), name);
        tensor = stored.dim() == 4 ? stored.contiguous(torch::MemoryFormat::ChannelsLast) : stored;
    }
    classifier.test_accuracy_ = std::stod(file.metadata.at("test_accuracy"));
    return classifier;
}

Classifier Classifier::untrained(uint64_t seed) {
    Classifier classifier;
    for (size_t i = 0; i < classifier.parameters_.size(); i += 2) {
        auto& weight = classifier.parameters_[i].second;
        const double fan_in = double(weight.numel() / weight.size(0));
        weight.copy_(normal(weight.sizes(), {seed, Purpose::kInitialWeights, i}) * std::sqrt(2 / fan_in));
    }
    return classifier;
}

std::vector<torch::Tensor> Classifier::parameters() const {
    std::vector<torch::Tensor> result;
    for (const auto& [name, tensor] : parameters_) result.push_back(tensor);
    return result;
}

std::pair<torch::Tensor, torch::Tensor> Classifier::forward(const torch::Tensor& images) const {
    const auto weight = [&](size_t layer) { return parameters_[2 * layer].second; };
    const auto bias = [&](size_t layer) { return parameters_[2 * layer + 1].second; };
    const auto conv = [&](size_t layer, const torch::Tensor& x) {
        return torch::relu(torch::conv2d(x, weight(layer), bias(layer), /*stride=*/1, /*padding=*/1));
    };
    auto h = torch::max_pool2d(conv(1, conv(0, images)), 2);
    h = torch::max_pool2d(conv(3, conv(2, h)), 2);
    const auto features = conv(4, h).mean({2, 3});
    return {features, torch::addmm(bias(5), features, weight(5).t())};
}

Classification Classifier::classify(const torch::Tensor& images) const {
    if (images.dim() != 4 || images.sizes().slice(1) != torch::IntArrayRef{1, kSide, kSide}) {
        throw Error(fmt::format("{} takes images of 1x28x28 only, as MNIST has them; these are {}", kClassifierName,
                                fmt::join(images.sizes().slice(1), "x")));
    }
    const int64_t count = images.size(0);
    Classification result{torch::empty({count, kFeatures}, torch::kFloat64), torch::empty({count, kDigits})};
    for_each_group(count, kGroup, torch::kCPU, at::get_num_threads(), [&](int64_t first, int64_t size) {
        const c10::InferenceMode inference;
        const auto [features, logits] = forward(group_of(images, first, kGroup));
        result.features.narrow(0, first, size).copy_(features.narrow(0, 0, size));
        result.probabilities.narrow(0, first, size).copy_(logits.narrow(0, 0, size).softmax(1));
    });
    return result;
}

}  // namespace diffuse
