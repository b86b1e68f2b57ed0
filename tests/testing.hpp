#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <string>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/diffusion/analytic.hpp"
#include "diffuse/diffusion/denoiser.hpp"
#include "diffuse/solve/sampler.hpp"
#include "diffuse/solve/solver.hpp"

namespace diffuse {

/// Schedules of steps that preserve variance and end with some signal left, in any number of steps; the others are
/// paths.
inline const std::vector<std::string> kStepSchedules = {"linear", "scaled-linear", "cosine", "sigmoid", "polynomial"};

/// What every solver can be made with for grids of a schedule's.
inline SolverOptions on_schedule(const Schedule& schedule, double eta = 0) {
    SolverOptions options{.eta = eta};
    options.schedule = std::make_shared<Schedule>(schedule);
    options.steps = 10;
    return options;
}

/// The message of the Error that `action` throws; fails when it throws none.
inline std::string error_of(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.what();
    }
    ADD_FAILURE() << "no Error was thrown";
    return "";
}

inline void expect_contains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

/// Data whose pixels are independent normal numbers, for which everything is known in closed form: the noisy data has
/// mean alpha * mean and variance v = alpha^2 std^2 + sigma^2, and E[eps | x] = sigma (x - alpha mean) / v.
struct GaussianData {
    double mean = 0.3, std = 0.5;

    double variance(const NoiseLevel& level) const { return std::pow(level.alpha * std, 2) + std::pow(level.sigma, 2); }
    Denoiser denoiser() const { return gaussian_denoiser(mean, std); }
    /// The probability-flow ODE's exact solution: deviations from the mean scale like the marginal's.
    torch::Tensor flow(const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to) const {
        return to.alpha * mean + std::sqrt(variance(to) / variance(from)) * (x - from.alpha * mean);
    }
};

/// Data from round normal distributions in the plane, x: [N, 2], of which the denoiser and the marginals are known.
struct MixtureData {
    torch::Tensor means = torch::tensor({{-0.6, 0.4}, {0.5, 0.5}, {0.1, -0.7}}, torch::kFloat64);  ///< [K, 2]
    torch::Tensor weights = torch::tensor({0.5, 0.3, 0.2}, torch::kFloat64);                       ///< [K]
    double std = 0.3;

    Denoiser denoiser() const { return mixture_denoiser({means, torch::full_like(weights, std), weights}); }
    /// The probability-flow ODE's solution, by the classical Runge-Kutta method in steps of 1/400 of r = sigma /
    /// alpha.
    torch::Tensor flow(const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to) const {
        const int steps = 1 + int(400 * std::abs(to.ratio() - from.ratio()));
        const double h = (to.ratio() - from.ratio()) / steps;
        const auto slope = [&](const torch::Tensor& y, double r) {
            const double alpha = 1 / std::sqrt(1 + r * r);
            return denoiser()(alpha * y, {alpha, r * alpha}).eps;
        };
        auto y = x / from.alpha;
        for (int i = 0; i < steps; ++i) {
            const double r = from.ratio() + i * h;
            const auto a = slope(y, r), b = slope(y + h / 2 * a, r + h / 2), c = slope(y + h / 2 * b, r + h / 2),
                       d = slope(y + h * c, r + h);
            y = y + h / 6 * (a + 2 * b + 2 * c + d);
        }
        return to.alpha * y;
    }
};

inline torch::Tensor no_noise(int64_t, int64_t) { throw std::logic_error("a deterministic solver asked for noise"); }
/// A denoiser in closed form for a walk, counted like a network.
inline DenoiserFactory closed_form(const Denoiser& denoiser) {
    return [denoiser](const Condition&, const Counter& evaluations) { return counted(denoiser, evaluations); };
}

/// Levels at equal distances in r = sigma / alpha, in which the methods' orders are defined, between two levels.
inline Grid spaced_in_ratio(double first, double last, int64_t steps) {
    Grid grid;
    for (int64_t i = 0; i <= steps; ++i) {
        const double r = first + (last - first) * double(i) / double(steps), alpha = 1 / std::sqrt(1 + r * r);
        grid.push_back({alpha, r * alpha, double(2 + i)});
    }
    return grid;
}

/// The exact denoiser of N(0, variance) at levels of any scale.
inline Denoiser centred_gaussian(double variance) { return gaussian_denoiser(0, std::sqrt(variance)); }

/// What a step makes of the variance of Gaussian data: on a linear denoiser it is x' = A x + B_1 z_1 + B_2 z_2 + ...,
/// whose numbers are read off by giving it a one in each place.
inline double variance_after(Solver& solver, const Denoiser& denoiser, double variance, const NoiseLevel& from,
                             const NoiseLevel& to, int64_t noises = 1) {
    const auto step = [&](double x, int64_t one_at) {
        const Noise noise = [&](int64_t k) { return torch::full({1, 1}, k == one_at ? 1.0 : 0.0, torch::kFloat64); };
        return solver.step(denoiser, torch::full({1, 1}, x, torch::kFloat64), from, to, noise).item<double>();
    };
    double after = std::pow(step(1, -1), 2) * variance;
    for (int64_t k = 0; k < noises; ++k) after += std::pow(step(0, k), 2);
    return after;
}

inline void ignore_step(int64_t, const torch::Tensor&) {}

}  // namespace diffuse
