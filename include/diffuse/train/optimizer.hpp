#pragma once

#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"
#include "diffuse/run/config.hpp"

namespace diffuse {

/// The parameters of a network, in its own order.
using Parameters = std::vector<torch::Tensor>;

/// All parameters as one contiguous vector: each becomes a view of it (4-D weights on a CPU in channels-last order), so
/// that what touches every weight is one operation.
torch::Tensor flatten_parameters(Parameters parameters);

/// Likewise one vector for all gradients, zero at first; backward() adds into it.
torch::Tensor flatten_gradients(Parameters parameters);

/// The parts of another vector of that layout, each with its parameter's shape.
Parameters views_of(const torch::Tensor& flat, const Parameters& parameters);

/// Points parameters at another vector of that layout, e.g. the averaged weights.
void view_parameters(Parameters parameters, const torch::Tensor& flat);

/// What a gradient of this norm is multiplied with so that its norm is at most `most` (0: any).
double clip_factor(double norm, double most);

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

/// Step size of step `step` (from 1): linear rise over warmup_steps, then as config.decay says. cosine falls to zero
/// after the last step along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5), linear in a straight
/// line, none stays.
double learning_rate(const TrainConfig& config, int64_t step);
std::vector<std::string> decay_names();

}  // namespace diffuse
