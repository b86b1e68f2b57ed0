#include <cmath>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

/// Song et al. 2021 (arXiv:2010.02502), eq. 12. The noise is eta times that of ddpm's posterior (eq. 16, there for
/// alpha^2 + sigma^2 = 1): eta sigma_to / sigma_from b, with ddpm's b^2 = sigma_from^2 - a^2 sigma_to^2, a = alpha_from
/// / alpha_to. So eta = 1 is ddpm on every path. At eta = 0, in y = x / alpha and r = sigma / alpha, it is Euler: y_to
/// = y_from + (r_to - r_from) eps.
class Ddim : public Solver {
public:
    explicit Ddim(double eta) : eta_(eta) {}

    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise& noise) override {
        const auto [x0, eps] = denoiser(x, from);
        if (eta_ == 0) return to.alpha * x0 + to.sigma * eps;
        const double a = from.alpha / to.alpha, b2 = from.sigma * from.sigma - a * a * to.sigma * to.sigma;
        const double fresh = eta_ * to.sigma / from.sigma * std::sqrt(b2);
        const double kept = std::sqrt(to.sigma * to.sigma - fresh * fresh);
        const auto mean = to.alpha * x0 + kept * eps;
        return to.sigma == 0 ? mean : mean + fresh * noise(0);
    }

private:
    double eta_;
};

}  // namespace

SolverKind ddim_solver() {
    return {.make = [](const SolverOptions& o) { return std::make_unique<Ddim>(o.eta.value_or(0)); },
            .fields = [](SolverOptions& o) { return Fields{eta_option(o, 0)}; }};
}

}  // namespace diffuse
