#include <cmath>

#include "solve/adaptive.hpp"
#include "solve/kinds.hpp"
#include "solve/ode.hpp"

namespace diffuse {
namespace {

constexpr double kTolerance = 1e-4;  ///< where nobody says

/// Dormand and Prince's method on the probability-flow ODE, in as many steps of its own between two levels as its
/// tolerance needs, in each of the ODE's two forms where that one is the smoother. Down to sigma = 0 and up from it, it
/// follows what the denoiser says there.
class Dopri5 : public Solver {
public:
    explicit Dopri5(double tolerance) : tolerance_(tolerance) {}
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        const Grid parts = parts_of_way(from, to);
        auto state = x;
        for (size_t i = 0; i + 1 < parts.size(); ++i) state = along(denoiser, state, parts[i], parts[i + 1]);
        return state;
    }

private:
    torch::Tensor along(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from,
                        const NoiseLevel& to) const {
        const OdeForm ode(from, to);
        const Slope slope = [&](double variable, const State& state) -> State {
            const NoiseLevel level = ode.level(variable);
            return {ode.slope(denoiser(ode.scale(level) * state[0], level))};
        };
        const State start = {x / ode.scale(from)};
        return ode.scale(to) * dormand_prince(slope, start, ode.variable(from), ode.variable(to), tolerance_)[0];
    }

    double tolerance_;
};

}  // namespace

SolverKind dopri5_solver() {
    return {.make = [](const SolverOptions& o) { return std::make_unique<Dopri5>(o.tolerance.value_or(kTolerance)); },
            .default_steps = 1,
            .adaptive = true,
            .fields =
                [](SolverOptions& o) {
                    return Fields{solver_option("tolerance", {&o.tolerance, 1e-10, 1}, kTolerance,
                                                "relative and absolute tolerance of a step's error")};
                }};
}

}  // namespace diffuse
