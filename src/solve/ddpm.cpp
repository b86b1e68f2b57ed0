#include <cmath>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

enum class Variance { kPosterior, kUpper };

/// Draws from the posterior q(x_s | x_t, x0), s < t (Ho et al. 2020, arXiv:2006.11239, eqs. 6 and 7), written for any
/// two levels: a = alpha_t / alpha_s and b^2 = sigma_t^2 - a^2 sigma_s^2 are the signal kept and the noise added from s
/// to t. The posterior's variance is right for data without spread, and too small for any other; b^2 is right for data
/// of unit variance, and the largest it can be (section 3.2).
template <Variance kVariance>
class Ddpm : public Solver {
public:
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise& noise) override {
        const auto x0 = denoiser(x, from).x0;
        const double a = from.alpha / to.alpha;
        const double b2 = from.sigma * from.sigma - a * a * to.sigma * to.sigma;
        const double sigma2 = from.sigma * from.sigma;
        const auto mean = (to.alpha * b2 / sigma2) * x0 + (a * to.sigma * to.sigma / sigma2) * x;
        if (to.sigma == 0) return mean;
        const double posterior = b2 / sigma2 * to.sigma * to.sigma;
        return mean + std::sqrt(kVariance == Variance::kUpper ? b2 : posterior) * noise(0);
    }
};

}  // namespace

SolverKind ddpm_solver() {
    return {.make = make<Ddpm<Variance::kPosterior>>, .default_steps = kEveryLevel, .stochastic = true};
}
SolverKind ddpm_upper_solver() {
    return {.make = make<Ddpm<Variance::kUpper>>, .default_steps = kEveryLevel, .stochastic = true};
}

}  // namespace diffuse
