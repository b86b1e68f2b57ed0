#include "diffuse/optimizer.hpp"

#include <cmath>
#include <numbers>

#include "diffuse/error.hpp"

namespace diffuse {
namespace {

constexpr double kBeta1 = 0.9, kEpsilon = 1e-8;

/// The part of `flat` that begins at `offset`, shaped like `like`; 4-D in channels-last order.
torch::Tensor view_like(const torch::Tensor& flat, int64_t offset, const torch::Tensor& like) {
    const auto part = flat.narrow(0, offset, like.numel());
    if (like.dim() != 4) return part.view(like.sizes());
    return part.view({like.size(0), like.size(2), like.size(3), like.size(1)}).permute({0, 3, 1, 2});
}

torch::Tensor zeros_for(const Parameters& parameters) {
    int64_t count = 0;
    for (const auto& parameter : parameters) count += parameter.numel();
    return torch::zeros({count}, parameters.front().options().requires_grad(false));
}

using Decay = double (*)(double fraction);  ///< of the steps after warm-up, 0 to 1, to a factor
const Table<Decay>& decays() {
    static const Table<Decay> table = {
        {"cosine", [](double fraction) { return 0.5 * (1 + std::cos(std::numbers::pi * fraction)); }},
        {"linear", [](double fraction) { return 1 - fraction; }},
        {"none", [](double) { return 1.0; }},
    };
    return table;
}

}  // namespace

torch::Tensor flatten_parameters(Parameters parameters) {
    const torch::NoGradGuard no_grad;
    const auto flat = zeros_for(parameters);
    const auto views = views_of(flat, parameters);
    for (size_t i = 0; i < views.size(); ++i) views[i].copy_(parameters[i]);
    view_parameters(parameters, flat);
    return flat;
}

torch::Tensor flatten_gradients(Parameters parameters) {
    const auto flat = zeros_for(parameters);
    const auto views = views_of(flat, parameters);
    for (size_t i = 0; i < views.size(); ++i) parameters[i].mutable_grad() = views[i];
    return flat;
}

Parameters views_of(const torch::Tensor& flat, const Parameters& parameters) {
    Parameters views;
    int64_t offset = 0;
    for (const auto& parameter : parameters) {
        views.push_back(view_like(flat, offset, parameter));
        offset += parameter.numel();
    }
    return views;
}

void view_parameters(Parameters parameters, const torch::Tensor& flat) {
    const auto views = views_of(flat, parameters);
    for (size_t i = 0; i < views.size(); ++i) parameters[i].set_data(views[i]);
}

void clip_norm_(torch::Tensor& gradient, double norm, double most) {
    if (most > 0 && norm > most) gradient.mul_(most / norm);
}

AdamW::AdamW(torch::Tensor weights, double beta2, double weight_decay)
    : mean(torch::zeros_like(weights)),
      square(torch::zeros_like(weights)),
      weights_(std::move(weights)),
      beta2_(beta2),
      weight_decay_(weight_decay) {}

void AdamW::step(const torch::Tensor& gradient, double learning_rate) {
    ++steps;
    mean.lerp_(gradient, 1 - kBeta1);
    square.mul_(beta2_).addcmul_(gradient, gradient, 1 - beta2_);
    const double mean_correction = 1 - std::pow(kBeta1, double(steps));
    const double square_correction = 1 - std::pow(beta2_, double(steps));
    const auto root = (square / square_correction).sqrt_().add_(kEpsilon);
    if (weight_decay_ > 0) weights_.mul_(1 - learning_rate * weight_decay_);
    weights_.addcdiv_(mean, root, -learning_rate / mean_correction);
}

void update_ema_(torch::Tensor& ema, const torch::Tensor& weights, double decay, int64_t step) {
    const double warm = double(1 + step) / double(10 + step);
    ema.lerp_(weights, 1 - std::min(decay, warm));
}

double learning_rate(const TrainConfig& config, int64_t step) {
    if (step <= config.warmup_steps) return config.learning_rate * double(step) / double(config.warmup_steps);
    const double after = double(step - 1 - config.warmup_steps),
                 span = double(std::max<int64_t>(1, config.steps - config.warmup_steps));
    return config.learning_rate * look_up("decay", decays(), config.decay)(after / span);
}

std::vector<std::string> decay_names() { return names(decays()); }

}  // namespace diffuse
