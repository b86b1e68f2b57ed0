#include "solve/kinds.hpp"
#include "solve/ode.hpp"

namespace diffuse {
namespace {

/// A method that can be walked back exactly, whatever the step (McCallum & Foster 2024, arXiv:2410.11648, eqs. 5 and
/// 6), on Euler steps Psi of the probability-flow ODE. Two states are walked, x and a second one z, that begins as its
/// copy:
///   x' = lambda x + (1 - lambda) z + Psi_h(z),   z' = z - Psi_{-h}(x'),
/// which is solved for x and z without any evaluation more:
///   z = z' + Psi_{-h}(x'),   x = (x' - (1 - lambda) z - Psi_h(z)) / lambda.
/// A step up in noise is the second pair, one down the first, so encoding and decoding undo each other to rounding, as
/// long as the second state is kept. The coupling lambda < 1 keeps the two states together; rounding errors grow by its
/// inverse at each step up.
class Reversible : public Solver {
public:
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        const OdeForm ode(from, to);
        if (!second_state_.defined()) second_state_ = x;
        const auto psi = [&](const torch::Tensor& y, const NoiseLevel& a, const NoiseLevel& b) {
            return (ode.variable(b) - ode.variable(a)) * ode.slope(denoiser(ode.scale(a) * y, a));
        };
        auto y = x / ode.scale(from), z = second_state_ / ode.scale(from);
        if (to.ratio() < from.ratio()) {
            y = kCoupling * y + (1 - kCoupling) * z + psi(z, from, to);
            z = z - psi(y, to, from);
        } else {
            z = z + psi(y, from, to);
            y = (y - (1 - kCoupling) * z - psi(z, to, from)) / kCoupling;
        }
        second_state_ = ode.scale(to) * z;
        return ode.scale(to) * y;
    }
    torch::Tensor* second_state() override { return &second_state_; }

private:
    static constexpr double kCoupling = 0.99;
    torch::Tensor second_state_;
};

}  // namespace

SolverKind reversible_solver() {
    return {.make = make<Reversible>, .evaluations = 2, .first_evaluations = 2, .last_evaluations = 2, .pairs = true};
}

}  // namespace diffuse
