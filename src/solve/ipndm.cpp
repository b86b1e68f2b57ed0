#include <array>
#include <deque>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

/// iPNDM (Zhang & Chen 2023, arXiv:2204.13902, eq. 11; after Liu et al. 2022, arXiv:2202.09778): Adams and Bashforth's
/// method on dy/dr = eps with the last four slopes, and with the coefficients of equal steps whatever the grid. Its
/// first three steps have a shorter history and take the method of that order.
class Ipndm : public Solver {
public:
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise&) override {
        slopes_.push_front(denoiser(x, from).eps);
        if (slopes_.size() > 4) slopes_.pop_back();
        const auto& weights = kWeights[slopes_.size() - 1];
        auto slope = weights[0] * slopes_[0];
        for (size_t i = 1; i < slopes_.size(); ++i) slope += weights[i] * slopes_[i];
        return to.alpha * (x / from.alpha + (to.ratio() - from.ratio()) * slope);
    }

private:
    static constexpr std::array<std::array<double, 4>, 4> kWeights = {{
        {1, 0, 0, 0},
        {3.0 / 2, -1.0 / 2, 0, 0},
        {23.0 / 12, -16.0 / 12, 5.0 / 12, 0},
        {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24},
    }};
    std::deque<torch::Tensor> slopes_;  ///< the newest first
};

}  // namespace

SolverKind ipndm_solver() { return {.make = make<Ipndm>}; }

}  // namespace diffuse
