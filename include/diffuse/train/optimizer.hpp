#pragma once

#include <string>
#include <vector>

#include "diffuse/base/parallel.hpp"
#include "diffuse/nets/net.hpp"
#include "diffuse/train/flat_parameters.hpp"
#include "diffuse/train/options.hpp"

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
    /// `gradient` is multiplied with `factor` first; ema <- ema_decay ema + (1 - ema_decay) weights at the end. The
    /// weights are shared out by `for_each`.
    void step(const torch::Tensor& gradient, double factor, double learning_rate, double ema_decay,
              const ForEach& for_each = one_by_one);

    /// All it remembers: running means of the gradient and its square, over so many steps.
    torch::Tensor mean, square;
    int64_t steps = 0;

private:
    torch::Tensor weights_, ema_;
    double beta2_, weight_decay_;
};

/// Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) over weights that are matrices W [rows, columns], in
/// one flat vector of float32, those of one shape beside one another. With the gradient G, M <- mu M + (1 - mu) G and
/// W <- (1 - rate decay) W - rate sqrt(max(1, rows / columns)) O, where O is `orthogonalised` mu M + (1 - mu) G
/// (Nesterov's momentum). It also keeps the weights' moving average.
class Muon {
public:
    /// `shapes`: weights like those in the vector, [rows, ...].
    Muon(const Parameters& shapes, torch::Tensor weights, torch::Tensor ema, double mu, double weight_decay);
    /// As AdamW's. `factor` hardly matters: O knows no size, and only steps that are clipped weigh less in M. The
    /// matrices are shared out by `for_each`, in parts that do not depend on it.
    void step(const torch::Tensor& gradient, double factor, double learning_rate, double ema_decay,
              const ForEach& for_each = one_by_one);

    torch::Tensor momentum;  ///< M, all it remembers

private:
    struct Stack {  ///< matrices of one shape, as many as one call works on
        int64_t first, count, rows, columns;
        torch::Tensor of(const torch::Tensor& flat) const;
    };
    std::vector<Stack> stacks_;
    torch::Tensor weights_, ema_;
    double mu_, weight_decay_;
};

/// The weights of a network by the optimizer that trains them. In flat vectors Muon's lie behind AdamW's, those of one
/// shape beside one another.
struct WeightGroups {
    NamedTensors adamw, muon;
    NamedTensors all() const;
    Parameters parameters() const;
};

/// muon: Muon for the matrices of the network (`Net::is_matrix`), AdamW for all others. adamw: AdamW for all, in the
/// network's order. Throws Error for another name.
WeightGroups weight_groups(const Net& network, const std::string& optimizer);
std::vector<std::string> optimizer_names();

/// AdamW and Muon, each over its part of the flat vectors.
class Optimizer {
public:
    Optimizer(const WeightGroups& groups, const TrainOptions& options, const torch::Tensor& weights,
              const torch::Tensor& ema);
    void step(const torch::Tensor& gradient, double factor, double adamw_rate, double muon_rate, double ema_decay,
              const ForEach& for_each = one_by_one);
    AdamW adamw;
    Muon muon;
};

}  // namespace diffuse
