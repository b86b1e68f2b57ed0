#include "solve/kinds.hpp"
#include "solve/ode.hpp"

namespace diffuse {
namespace {

/// Heun's method (Karras et al. 2022, arXiv:2206.00364, algorithm 1): an Euler step, then again with the mean of the
/// slopes at both ends. A step to sigma = 0 stays Euler: there is no slope to ask for.
class Heun : public Solver {
public:
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        const auto first = denoiser(x, from);
        const auto euler = to.alpha * first.x0 + to.sigma * first.eps;
        if (to.sigma == 0) return euler;
        const OdeForm ode(from, to);
        const double h = ode.variable(to) - ode.variable(from);
        const auto slopes = ode.slope(first) + ode.slope(denoiser(euler, to));
        return ode.scale(to) * (x / ode.scale(from) + h / 2 * slopes);
    }
};

}  // namespace

SolverKind heun_solver() { return {.make = make<Heun>, .evaluations = 2, .first_evaluations = 2}; }

}  // namespace diffuse
