#include <cmath>
#include <deque>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

/// DPM-Solver++ multistep (Lu et al. 2022, arXiv:2211.01095). In lambda = log(alpha / sigma) the probability-flow ODE
/// has the solution (eq. 8), with h = lambda_t - lambda_s,
///   x_t = sigma_t / sigma_s x_s + alpha_t integral_0^1 h e^{h (u - 1)} x0(lambda_s + h u) du,
/// in which x0 is replaced by the polynomial through this prediction and those of the steps before. A step to sigma = 0
/// has h without bound, and gives x0 itself; one from sigma = 0, the first of encoding, is ddim's.
class DpmPlusPlus : public Solver {
public:
    explicit DpmPlusPlus(size_t order) : order_(order) {}

    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        const auto [x0, eps] = denoiser(x, from);
        if (from.sigma == 0 || to.sigma == 0) return to.alpha * x0 + to.sigma * eps;
        history_.push_front({from.log_snr() / 2, x0});
        if (history_.size() > order_) history_.pop_back();
        const double h = to.log_snr() / 2 - from.log_snr() / 2;
        return to.sigma / from.sigma * x + to.alpha * integral(h);
    }

private:
    struct Entry {
        double lambda;
        torch::Tensor x0;
    };

    /// Of h e^{h (u - 1)} p(u), p the Newton polynomial through the history at u = 0, -r0, -(r0 + r1).
    torch::Tensor integral(double h) const {
        const double of_1 = -std::expm1(-h), of_u = 1 - of_1 / h, of_u2 = 1 - 2 * of_u / h;  // moments 0, 1, 2
        const auto& now = history_[0];
        if (history_.size() == 1) return of_1 * now.x0;
        const double r0 = (now.lambda - history_[1].lambda) / h;
        const auto d0 = (now.x0 - history_[1].x0) / r0;
        // The second-order method of the paper (algorithm 2) takes the line's value in the middle for all of it.
        if (order_ == 2) return of_1 * (now.x0 + d0 / 2);
        if (history_.size() == 2) return of_1 * now.x0 + of_u * d0;
        const double r1 = (history_[1].lambda - history_[2].lambda) / h;
        const auto d1 = (history_[1].x0 - history_[2].x0) / r1;
        const auto curvature = (d0 - d1) / (r0 + r1);
        return of_1 * now.x0 + of_u * (d0 + r0 * curvature) + of_u2 * curvature;
    }

    size_t order_;
    std::deque<Entry> history_;  ///< the newest first
};

}  // namespace

SolverKind dpmpp_solver(int order) {
    return {.make = [=](const SolverOptions&) { return std::make_unique<DpmPlusPlus>(size_t(order)); }};
}

}  // namespace diffuse
