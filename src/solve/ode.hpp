#pragma once

#include "diffuse/diffusion/denoiser.hpp"
#include "diffuse/diffusion/grid.hpp"
#include "diffuse/diffusion/schedule.hpp"

namespace diffuse {

/// The probability-flow ODE in one of its two forms (docs/maths.md): dy/dr = eps with y = x / alpha, r = sigma / alpha;
/// and dz/ds = x0 with z = x / sigma, s = alpha / sigma = 1 / r. An Euler step is ddim's in both. A method of higher
/// order is only good where the step is short, so each step takes the form whose variable is the smaller: near pure
/// noise r runs from 1 to 80 or more, but s only from 1 to 0. It is the same one in both directions.
struct OdeForm {
    bool in_ratio;  ///< the form in r

    OdeForm(const NoiseLevel& from, const NoiseLevel& to) : in_ratio(from.sigma * to.sigma <= from.alpha * to.alpha) {}

    double variable(const NoiseLevel& level) const { return in_ratio ? level.ratio() : 1 / level.ratio(); }
    double scale(const NoiseLevel& level) const { return in_ratio ? level.alpha : level.sigma; }
    torch::Tensor slope(const Prediction& prediction) const { return in_ratio ? prediction.eps : prediction.x0; }
    NoiseLevel level(double variable) const { return level_of_ratio(in_ratio ? variable : 1 / variable); }
};

/// The way between two levels in parts, none of which crosses r = 1: in each, one form is the smoother all along. For
/// methods of long ways.
inline Grid parts_of_way(const NoiseLevel& from, const NoiseLevel& to) {
    if ((from.ratio() - 1) * (to.ratio() - 1) < 0) return {from, level_of_ratio(1), to};
    return {from, to};
}

}  // namespace diffuse
