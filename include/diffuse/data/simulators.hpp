#pragma once

#include <optional>
#include <string>
#include <utility>

#include "diffuse/base/random.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/base/torch.hpp"

namespace diffuse {

/// A model of how observations y come from parameters theta, whose posterior p(theta | y) can be drawn exactly. All
/// that is drawn is a function of the seed and the row's index.
struct Simulator {
    std::string name;
    int64_t parameters, observations;  ///< how many numbers theta and y have
    /// Of a uniform prior, the same in each parameter; none: the prior is on the whole line.
    std::optional<std::pair<double, double>> bounds;

    // A row each.
    void (*draw_prior)(Random& random, const Simulator& task, double* theta);
    void (*draw_observation)(Random& random, const double* theta, double* y);
    /// Draws from the posterior as it would be without the bounds; false: the draw is rejected.
    bool (*propose)(Random& random, const double* y, double* theta);

    /// float64 [count, parameters]; row i is a function of (seed, first + i)
    torch::Tensor prior(uint64_t seed, int64_t first, int64_t count) const;
    /// theta: [count, parameters] -> float64 [count, observations]; row i is a function of (theta[i], seed, first + i)
    torch::Tensor simulate(const torch::Tensor& theta, uint64_t seed, int64_t first) const;
    /// Of one observation y: [observations] -> float64 [count, parameters]; row i is a function of (y, seed, i). Throws
    /// Error when y is so far from what the prior can make that (almost) no proposal is accepted.
    torch::Tensor posterior(const torch::Tensor& y, uint64_t seed, int64_t count) const;
};

/// Tasks of the benchmark sbibm (Lueckmann et al. 2021, "Benchmarking simulation-based inference", arXiv:2101.04653),
/// and where its code, or its posteriors, slip:
/// gaussian-linear: theta ~ N(0, 0.1 I) in 10 dimensions, y ~ N(theta, 0.1 I). sbibm calls 0.1 a standard deviation,
///   but its code takes it for the variance, as here.
/// two-moons: theta ~ U(-1, 1)^2; y is a point p of a half ring, at an angle of U(-pi/2, pi/2) and a radius of
///   N(0.1, 0.01^2) around (0.25, 0), plus (-|theta_1 + theta_2|, theta_2 - theta_1) / sqrt(2). sbibm's likelihood
///   leaves out the 1 / radius of p's density, and its reference samples do not reject a p left of y, to which no theta
///   leads; here the posterior is the simulator's.
/// gaussian-mixture: theta ~ U(-10, 10)^2, y ~ N(theta, I) or N(theta, 0.01 I), equally often. sbibm draws which of the
///   two once per call, not per row.
/// slcp, simple likelihood and complex posterior: theta ~ U(-3, 3)^5; y is four points (x_1, y_1, ..., x_4, y_4) of a
///   normal distribution with mean (theta_1, theta_2), standard deviations theta_3^2 and theta_4^2 and correlation
///   tanh(theta_5). sbibm adds 1e-6 to both variances, and has posterior samples of ten observations only, by a fitted
///   proposal.
const Table<Simulator>& simulators();

}  // namespace diffuse
