#include "diffuse/train/optimizer.hpp"

#include <cmath>

#include "diffuse/ops/adamw.hpp"

namespace diffuse {
namespace {

constexpr double kBeta1 = 0.9, kEpsilon = 1e-8;

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

}  // namespace diffuse
