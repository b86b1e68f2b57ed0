#include <cmath>
#include <deque>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

/// UniPC (Zhao et al. 2023, arXiv:2302.04867), predicting x0, B(h) = e^h - 1 ("bh2"), of order 2. A step first corrects
/// the x it was given, which the step before predicted, with what the network now says there (UniC-2, algorithm 1),
/// then predicts the next (UniP-2, algorithm 2): one evaluation serves both. The step to sigma = 0 gives x0.
class UniPc : public Solver {
public:
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        const auto [x0, eps] = denoiser(x, from);
        if (from.sigma == 0 || to.sigma == 0) return to.alpha * x0 + to.sigma * eps;
        history_.push_front({from, history_.empty() ? x : corrected(x0, from), x0});
        if (history_.size() > 2) history_.pop_back();
        return predicted(to);
    }

private:
    struct Point {
        NoiseLevel level;
        torch::Tensor x, x0;
        double lambda() const { return level.log_snr() / 2; }
    };

    /// The first-order step from the last point, and what the slope of x0 over lambda adds to it.
    static torch::Tensor step_from(const Point& last, const NoiseLevel& to, double h, const torch::Tensor& added) {
        return to.sigma / last.level.sigma * last.x - to.alpha * std::expm1(-h) * (last.x0 + added);
    }
    /// Rise of x0 over a step of h, from the last two points.
    torch::Tensor rise(double h) const {
        return (history_[0].x0 - history_[1].x0) * (h / (history_[0].lambda() - history_[1].lambda()));
    }

    torch::Tensor predicted(const NoiseLevel& to) const {
        const Point& last = history_[0];
        const double h = to.log_snr() / 2 - last.lambda();
        return step_from(last, to, h, history_.size() > 1 ? rise(h) / 2 : torch::zeros_like(last.x0));
    }

    torch::Tensor corrected(const torch::Tensor& x0, const NoiseLevel& level) const {
        const Point& last = history_[0];
        const double h = level.log_snr() / 2 - last.lambda();
        const auto over_this_step = x0 - last.x0;
        if (history_.size() == 1) return step_from(last, level, h, over_this_step / 2);
        const double ratio = (history_[1].lambda() - last.lambda()) / h, B = std::expm1(-h);
        const double b1 = (-B / h - 1) / B, b2 = 2 * (-(-B / h - 1) / h - 0.5) / B;
        const double c = (b1 - b2) / (1 - ratio);
        return step_from(last, level, h, c * rise(h) + (b1 - c) * over_this_step);
    }

    std::deque<Point> history_;  ///< the newest first
};

}  // namespace

SolverKind unipc_solver() { return {.make = make<UniPc>}; }

}  // namespace diffuse
