#pragma once

#include <functional>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// A number that was measured, and its standard error: the standard deviation that it has over other draws of what it
/// was measured on. NaN where too few examples tell nothing of it.
struct Estimate {
    double value = 0, error = 0;
};

/// The mean of independent numbers, [N], with the error s / sqrt(N).
Estimate mean_estimate(const torch::Tensor& each);

/// A share, 0 to 1, of `count` independent examples, with the binomial error sqrt(p (1 - p) / count). Its p is
/// Laplace's, (k + 1) / (count + 2) of k examples, so that a share of 0 or 1 has an error too.
Estimate share_estimate(double share, int64_t count);

/// The median of independent numbers, [N], with half the distance of the quantiles at 1/2 -+ 1 / (2 sqrt(N)) as its
/// error: an interval of one standard error by order statistics.
Estimate median_estimate(const torch::Tensor& each);

/// The standard error of what `value` makes of `count` independent examples, by the jackknife over 20 groups (Efron &
/// Stein 1981, "The jackknife estimate of variance"; groups of neighbours, one example each of fewer than 20): each is
/// left out in turn, and sqrt((G - 1) / G) times the root of the sum of squares says how far apart the values are. It
/// errs to the large side: by a factor of sqrt(2) for a distance that is all chance. `value` gets the indices of those
/// that are left, int64 [L]. NaN for fewer than 3 examples.
double jackknife_error(int64_t count, const std::function<double(const torch::Tensor& left)>& value);

}  // namespace diffuse
