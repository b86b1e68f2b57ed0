#include <algorithm>
#include <cmath>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

/// Song et al. 2021 (arXiv:2010.02502), eq. 12, with the noise of eq. 16. At eta = 0, in y = x / alpha and
/// r = sigma / alpha, it is Euler: y_to = y_from + (r_to - r_from) eps.
class Ddim : public Solver {
public:
    explicit Ddim(double eta) : eta_(eta) {}

    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise& noise) override {
        const auto [x0, eps] = denoiser(x, from);
        if (eta_ == 0) return to.alpha * x0 + to.sigma * eps;
        const double added = std::max(0.0, 1 - std::pow(from.alpha / to.alpha, 2));
        const double fresh = eta_ * to.sigma / from.sigma * std::sqrt(added);
        const double kept = std::sqrt(std::max(0.0, to.sigma * to.sigma - fresh * fresh));
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
