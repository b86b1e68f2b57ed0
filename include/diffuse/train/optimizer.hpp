#pragma once

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// What a gradient of this norm is multiplied with so that its norm is at most `max_norm` (0: any).
double clip_factor(double norm, double max_norm);

/// How much of the old average stays at update `step` (from 1), an exponential moving average with warm-up: the smaller
/// of `decay` and (1 + step) / (10 + step), so that early averages forget the random start.
double ema_decay(double decay, int64_t step);

/// AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2) over one flat vector of float32; beta1 0.9, eps
/// 1e-8. It also keeps the weights' moving average: on a CPU all of a step is one pass over memory.
class AdamW {
public:
    AdamW(torch::Tensor weights, torch::Tensor ema, double beta2, double weight_decay);
    /// `gradient` is multiplied with `factor` first; ema <- ema_decay ema + (1 - ema_decay) weights at the end.
    void step(const torch::Tensor& gradient, double factor, double learning_rate, double ema_decay);

    /// All it remembers: running means of the gradient and its square, over so many steps.
    torch::Tensor mean, square;
    int64_t steps = 0;

private:
    torch::Tensor weights_, ema_;
    double beta2_, weight_decay_;
};

}  // namespace diffuse
