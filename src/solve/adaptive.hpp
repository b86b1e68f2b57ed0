#pragma once

#include <functional>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Parts of the state of a differential equation, each of its own shape. The error of a step is that of the worst part.
using State = std::vector<torch::Tensor>;
using Slope = std::function<State(double u, const State& y)>;

/// y at `from` -> y at `to` along dy/du = slope, upwards or downwards, by the pair of orders 5 and 4 of Dormand &
/// Prince (1980, J. Comput. Appl. Math. 6, 19), which takes the solution of order 5 on and the difference of both as
/// the error. Steps are as long as the root mean square of error / (1 + |y|) in each part stays within `tolerance`
/// (Hairer, Norsett & Wanner 1993, section II.4). Six slopes a step, and one at the start: the last one is the next
/// step's first. Throws Error (exit code 1) where steps would vanish.
State dormand_prince(const Slope& slope, State y, double from, double to, double tolerance);

}  // namespace diffuse
