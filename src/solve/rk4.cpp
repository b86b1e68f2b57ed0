#include "solve/kinds.hpp"
#include "solve/ode.hpp"

namespace diffuse {
namespace {

/// The classical Runge-Kutta method (Kutta 1901) on the probability-flow ODE: four evaluations a step, two of them
/// half-way. A step to sigma = 0 is Euler's.
class Rk4 : public Solver {
public:
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        const auto first = denoiser(x, from);
        if (to.sigma == 0) return to.alpha * first.x0 + to.sigma * first.eps;
        const OdeForm ode(from, to);
        const double h = ode.variable(to) - ode.variable(from);
        const NoiseLevel middle = ode.level(ode.variable(from) + h / 2);
        const auto y = x / ode.scale(from), k1 = ode.slope(first);
        const auto slope = [&](const torch::Tensor& at, const NoiseLevel& level) {
            return ode.slope(denoiser(ode.scale(level) * at, level));
        };
        const auto k2 = slope(y + h / 2 * k1, middle);
        const auto k3 = slope(y + h / 2 * k2, middle);
        const auto k4 = slope(y + h * k3, to);
        return ode.scale(to) * (y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4));
    }
};

}  // namespace

SolverKind rk4_solver() { return {.make = make<Rk4>, .evaluations = 4, .first_evaluations = 4}; }

}  // namespace diffuse
