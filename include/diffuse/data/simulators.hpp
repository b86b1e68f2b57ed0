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

/// Tasks of the benchmark sbibm (Lueckmann et al. 2021, "Benchmarking simulation-based inference", arXiv:2101.04653).
/// Where its code, or its posteriors, slip stands beside each in simulators.cpp.
const Table<Simulator>& simulators();

}  // namespace diffuse
