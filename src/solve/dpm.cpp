#include <cmath>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

/// DPM-Solver (Lu et al. 2022, arXiv:2206.00927): the probability-flow ODE in lambda = log(alpha / sigma), whose linear
/// part is solved exactly (eq. 3.4), with h = lambda_t - lambda_s:
///   x_t = alpha_t / alpha_s x_s - sigma_t integral_0^1 h e^{h (1 - u)} eps(lambda_s + h u) du.
/// Each step stands alone and evaluates inside itself. Steps to and from sigma = 0, where h has no bound, are ddim's.
class Dpm : public Solver {
public:
    explicit Dpm(int order) : order_(order) {}

    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        const auto [x0, eps] = denoiser(x, from);
        if (from.sigma == 0 || to.sigma == 0) return to.alpha * x0 + to.sigma * eps;
        const double lambda = from.log_snr() / 2, h = to.log_snr() / 2 - lambda;
        const auto level = [&](double u) { return level_of_ratio(std::exp(-(lambda + u * h))); };
        const auto first_order = [&, &eps = eps](const NoiseLevel& end, double u) {
            return end.alpha / from.alpha * x - end.sigma * std::expm1(u * h) * eps;
        };
        if (order_ == 2) {  // algorithm 1, r1 = 1/2
            const NoiseLevel middle = level(0.5);
            const auto slope = denoiser(first_order(middle, 0.5), middle).eps;
            return to.alpha / from.alpha * x - to.sigma * std::expm1(h) * slope;
        }
        const double r1 = 1.0 / 3, r2 = 2.0 / 3;  // algorithm 2
        const NoiseLevel one = level(r1), two = level(r2);
        const auto d1 = denoiser(first_order(one, r1), one).eps - eps;
        const auto u2 = first_order(two, r2) - two.sigma * r2 / r1 * (std::expm1(r2 * h) / (r2 * h) - 1) * d1;
        const auto d2 = denoiser(u2, two).eps - eps;
        return first_order(to, 1) - to.sigma / r2 * (std::expm1(h) / h - 1) * d2;
    }

private:
    int order_;
};

}  // namespace

SolverKind dpm_solver(int order) {
    return {.make = [=](const SolverOptions&) { return std::make_unique<Dpm>(order); }, .evaluations = order};
}

}  // namespace diffuse
