#include "diffuse/train/optimizer.hpp"

#include <algorithm>
#include <cmath>

#include "diffuse/base/table.hpp"
#include "diffuse/ops/adamw.hpp"
#include "diffuse/ops/muon.hpp"

namespace diffuse {
namespace {

constexpr double kBeta1 = 0.9, kEpsilon = 1e-8;

/// Enough for a call to be worth it, and few enough to be shared out; a GPU does all at once.
constexpr int64_t kMatricesAtOnce = 4, kWeightsAtOnce = 1 << 15;

/// Whether Muon trains a weight.
using TakenByMuon = bool (*)(const Net& network, const std::string& name, const torch::Tensor& weight);
const Table<TakenByMuon>& optimizers() {
    static const Table<TakenByMuon> table = {
        {"muon",
         [](const Net& network, const auto& name, const auto& weight) { return network.is_matrix(name, weight); }},
        {"adamw", [](const Net&, const std::string&, const torch::Tensor&) { return false; }}};
    return table;
}

int64_t count_numbers(const NamedTensors& tensors) {
    int64_t count = 0;
    for (const auto& [name, tensor] : tensors) count += tensor.numel();
    return count;
}

/// The part of a flat vector that a group has, behind `before`.
torch::Tensor part(const torch::Tensor& flat, const NamedTensors& group, const NamedTensors& before = {}) {
    return flat.narrow(0, count_numbers(before), count_numbers(group));
}

Parameters tensors_of(const NamedTensors& named) {
    Parameters result;
    for (const auto& [name, tensor] : named) result.push_back(tensor);
    return result;
}

}  // namespace

double clip_factor(double norm, double max_norm) { return max_norm > 0 && norm > max_norm ? max_norm / norm : 1; }

double ema_decay(double decay, int64_t step) { return std::min(decay, double(1 + step) / double(10 + step)); }

AdamW::AdamW(torch::Tensor weights, torch::Tensor ema, double beta2, double weight_decay)
    : mean(torch::zeros_like(weights)),
      square(torch::zeros_like(weights)),
      weights_(std::move(weights)),
      ema_(std::move(ema)),
      beta2_(beta2),
      weight_decay_(weight_decay) {}

void AdamW::step(const torch::Tensor& gradient, double factor, double learning_rate, double ema_decay,
                 const ForEach& for_each) {
    ++steps;
    const AdamWStep step{.factor = factor,
                         .beta1 = kBeta1,
                         .beta2 = beta2_,
                         .epsilon = kEpsilon,
                         .shrink = 1 - learning_rate * weight_decay_,
                         .rate = learning_rate / (1 - std::pow(kBeta1, double(steps))),
                         .square_correction = 1 - std::pow(beta2_, double(steps)),
                         .ema_decay = ema_decay};
    const int64_t all = weights_.numel(), at_once = weights_.is_cpu() ? std::min(all, kWeightsAtOnce) : all;
    for_each((all + at_once - 1) / std::max<int64_t>(at_once, 1), [&](int64_t i) {
        const auto part = [&](const torch::Tensor& flat) {
            return flat.narrow(0, i * at_once, std::min(at_once, all - i * at_once));
        };
        adamw_(step, part(gradient), part(mean), part(square), part(weights_), part(ema_));
    });
}

Muon::Muon(const Parameters& shapes, torch::Tensor weights, torch::Tensor ema, double mu, double weight_decay)
    : momentum(torch::zeros_like(weights)),
      weights_(std::move(weights)),
      ema_(std::move(ema)),
      mu_(mu),
      weight_decay_(weight_decay) {
    const int64_t at_once = weights_.is_cpu() ? kMatricesAtOnce : std::ssize(shapes);
    int64_t first = 0;
    for (const auto& weight : shapes) {
        const int64_t rows = weight.size(0), columns = weight.numel() / rows;
        const bool fits = !stacks_.empty() && stacks_.back().rows == rows && stacks_.back().columns == columns &&
                          stacks_.back().count < at_once;
        if (!fits) stacks_.push_back({first, 0, rows, columns});
        ++stacks_.back().count;
        first += weight.numel();
    }
}

torch::Tensor Muon::Stack::of(const torch::Tensor& flat) const {
    return flat.narrow(0, first, count * rows * columns).view({count, rows, columns});
}

void Muon::step(const torch::Tensor& gradient, double factor, double learning_rate, double ema_decay,
                const ForEach& for_each) {
    for_each(std::ssize(stacks_), [&](int64_t i) {
        const Stack& stack = stacks_[size_t(i)];
        const double scale = std::sqrt(std::max(1.0, double(stack.rows) / double(stack.columns)));
        const auto g = stack.of(gradient) * (factor * (1 - mu_)), weights = stack.of(weights_);
        const auto mean = stack.of(momentum).mul_(mu_).add_(g);
        weights.mul_(1 - learning_rate * weight_decay_);
        weights.sub_(orthogonalised(torch::add(g, mean, mu_)), learning_rate * scale);
        stack.of(ema_).lerp_(weights, 1 - ema_decay);
    });
}

NamedTensors WeightGroups::all() const {
    NamedTensors result = adamw;
    result.insert(result.end(), muon.begin(), muon.end());
    return result;
}

Parameters WeightGroups::parameters() const { return tensors_of(all()); }

WeightGroups weight_groups(const Net& network, const std::string& optimizer) {
    const TakenByMuon taken = look_up("optimizer", optimizers(), optimizer);
    WeightGroups groups;
    for (const auto& [name, weight] : network.named_parameters()) {
        (taken(network, name, weight) ? groups.muon : groups.adamw).emplace_back(name, weight);
    }
    std::stable_sort(groups.muon.begin(), groups.muon.end(),
                     [](const auto& a, const auto& b) { return a.second.sizes().vec() < b.second.sizes().vec(); });
    return groups;
}

std::vector<std::string> optimizer_names() { return names(optimizers()); }

Optimizer::Optimizer(const WeightGroups& groups, const TrainOptions& options, const torch::Tensor& weights,
                     const torch::Tensor& ema)
    : adamw(part(weights, groups.adamw), part(ema, groups.adamw), options.beta2, options.weight_decay),
      muon(tensors_of(groups.muon), part(weights, groups.muon, groups.adamw), part(ema, groups.muon, groups.adamw),
           options.muon_momentum, options.weight_decay) {}

void Optimizer::step(const torch::Tensor& gradient, double factor, double adamw_rate, double muon_rate,
                     double ema_decay, const ForEach& for_each) {
    const int64_t first = adamw.mean.numel();
    adamw.step(gradient.narrow(0, 0, first), factor, adamw_rate, ema_decay, for_each);
    muon.step(gradient.narrow(0, first, muon.momentum.numel()), factor, muon_rate, ema_decay, for_each);
}

}  // namespace diffuse
