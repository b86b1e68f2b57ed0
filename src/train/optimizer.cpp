#include "diffuse/train/optimizer.hpp"

#include <cmath>
#include <numbers>

#include "diffuse/base/error.hpp"
#include "diffuse/ops/ops.hpp"

namespace diffuse {
namespace {

constexpr double kBeta1 = 0.9, kEpsilon = 1e-8;

/// The part of `flat` that begins at `offset`, shaped like `like`; 4-D on a CPU in channels-last order, as unet.hpp
/// says.
torch::Tensor view_like(const torch::Tensor& flat, int64_t offset, const torch::Tensor& like) {
    const auto part = flat.narrow(0, offset, like.numel());
    if (like.dim() != 4 || !like.is_cpu()) return part.view(like.sizes());
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

double clip_factor(double norm, double most) { return most > 0 && norm > most ? most / norm : 1; }

double ema_decay(double decay, int64_t step) { return std::min(decay, double(1 + step) / double(10 + step)); }

AdamW::AdamW(torch::Tensor weights, torch::Tensor ema, double beta2, double weight_decay)
    : mean(torch::zeros_like(weights)),
      square(torch::zeros_like(weights)),
      weights_(std::move(weights)),
      ema_(std::move(ema)),
      beta2_(beta2),
      weight_decay_(weight_decay) {}

void AdamW::step(const torch::Tensor& gradient, double factor, double learning_rate, double ema_decay) {
    ++steps;
    const AdamWStep step{.factor = factor,
                         .beta1 = kBeta1,
                         .beta2 = beta2_,
                         .epsilon = kEpsilon,
                         .shrink = 1 - learning_rate * weight_decay_,
                         .rate = learning_rate / (1 - std::pow(kBeta1, double(steps))),
                         .square_correction = 1 - std::pow(beta2_, double(steps)),
                         .ema_decay = ema_decay};
    adamw_(step, gradient, mean, square, weights_, ema_);
}

double learning_rate(const TrainConfig& config, int64_t step) {
    if (step <= config.warmup_steps) return config.learning_rate * double(step) / double(config.warmup_steps);
    const double after = double(step - 1 - config.warmup_steps),
                 span = double(std::max<int64_t>(1, config.steps - config.warmup_steps));
    return config.learning_rate * look_up("decay", decays(), config.decay)(after / span);
}

std::vector<std::string> decay_names() { return names(decays()); }

}  // namespace diffuse
