#include <cmath>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

/// Euler-Maruyama on the reverse-time SDE dx = [f x - (1 + eta^2) / 2 g^2 score] dt + eta g dw (Anderson 1982; Song et
/// al. 2021, arXiv:2011.13456, eqs. 6 and 13), with score = -eps / sigma: eta = 1 is Anderson's, eta = 0 the
/// probability-flow ODE, and all between have the same marginals (Zhang & Chen 2023, arXiv:2204.13902, eq. 4). The step
/// to data, which has no score, ends in its mean.
class EulerMaruyama : public Solver {
public:
    EulerMaruyama(std::shared_ptr<const Schedule> schedule, double eta) : schedule_(std::move(schedule)), eta_(eta) {}

    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise& noise) override {
        const auto [x0, eps] = denoiser(x, from);
        if (to.sigma == 0) return x0;
        const auto [f, g2] = schedule_->sde(from.t);
        const double h = to.t - from.t;
        const auto drift = f * x + (1 + eta_ * eta_) / 2 * g2 / from.sigma * eps;
        const auto mean = x + h * drift;
        return eta_ == 0 ? mean : mean + eta_ * std::sqrt(g2 * std::abs(h)) * noise(0);
    }

private:
    std::shared_ptr<const Schedule> schedule_;
    double eta_;
};

}  // namespace

SolverKind euler_maruyama_solver() {
    return {
        .make = [](const SolverOptions& o) { return std::make_unique<EulerMaruyama>(o.schedule, o.eta.value_or(1)); },
        .default_steps = 200,
        .stochastic = true,
        .fields = [](SolverOptions& o) { return Fields{eta_option(o, 1)}; }};
}

}  // namespace diffuse
