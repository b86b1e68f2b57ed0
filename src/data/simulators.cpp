#include "diffuse/data/simulators.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "data/kinds.hpp"
#include "diffuse/base/random.hpp"

namespace diffuse {
namespace {

/// Proposals that a sample may need; slcp: 8 for most observations, but above 3,000 for one in a hundred.
constexpr int64_t kTries = 1'000'000;

void uniform_prior(Random& random, const Simulator& task, double* theta) {
    std::generate_n(theta, task.parameters, [&] { return random.uniform(task.bounds->first, task.bounds->second); });
}

// gaussian-linear: theta ~ N(0, 0.1 I) in 10 dimensions, y ~ N(theta, 0.1 I). sbibm calls 0.1 a standard deviation, but
// its code takes it for the variance, as here.

constexpr int64_t kDimensions = 10;
const double kStd = std::sqrt(0.1);  // of the prior and of the simulator

void gaussian_linear_prior(Random& random, const Simulator&, double* theta) {
    std::generate_n(theta, kDimensions, [&] { return kStd * random.normal(); });
}

void gaussian_linear(Random& random, const double* theta, double* y) {
    std::transform(theta, theta + kDimensions, y, [&](double t) { return t + kStd * random.normal(); });
}

/// Prior and likelihood are equally wide: halfway between their means, with half the variance.
bool gaussian_linear_posterior(Random& random, const double* y, double* theta) {
    const double std = kStd / std::numbers::sqrt2;
    std::transform(y, y + kDimensions, theta, [&](double v) { return v / 2 + std * random.normal(); });
    return true;
}

// two-moons: theta ~ U(-1, 1)^2; y is a point p of a half ring, at an angle of U(-pi/2, pi/2) and a radius of
// N(0.1, 0.01^2) around (0.25, 0), plus (-|theta_1 + theta_2|, theta_2 - theta_1) / sqrt(2). sbibm's likelihood leaves
// out the 1 / radius of p's density, and its reference samples do not reject a p left of y, to which no theta leads;
// here the posterior is the simulator's.

struct PlanePoint {
    double x, y;
};

PlanePoint on_half_ring(Random& random) {
    const double angle = random.uniform(-std::numbers::pi / 2, std::numbers::pi / 2);
    const double radius = 0.1 + 0.01 * random.normal();
    return {0.25 + radius * std::cos(angle), radius * std::sin(angle)};
}

void two_moons(Random& random, const double* theta, double* y) {
    const PlanePoint p = on_half_ring(random);
    y[0] = p.x - std::abs(theta[0] + theta[1]) / std::numbers::sqrt2;
    y[1] = p.y + (theta[1] - theta[0]) / std::numbers::sqrt2;
}

/// Given y, each p leads to two theta, mirror images of each other, or none. They turn and mirror the plane of p and
/// stretch nothing, so that theta's density under a flat prior is p's own.
bool two_moons_posterior(Random& random, const double* y, double* theta) {
    const PlanePoint p = on_half_ring(random);
    if (p.x < y[0]) return false;
    const double sum = (random.below(2) ? 1 : -1) * std::numbers::sqrt2 * (p.x - y[0]);
    const double difference = std::numbers::sqrt2 * (y[1] - p.y);
    theta[0] = (sum - difference) / 2;
    theta[1] = (sum + difference) / 2;
    return true;
}

// gaussian-mixture: theta ~ U(-10, 10)^2, y ~ N(theta, I) or N(theta, 0.01 I), equally often. sbibm draws which of the
// two once per call, not per row.

void gaussian_mixture(Random& random, const double* theta, double* y) {
    const double std = random.below(2) ? 1 : 0.1;
    std::transform(theta, theta + 2, y, [&](double t) { return t + std * random.normal(); });
}

/// Under a flat prior theta lies around y as y does around theta.
bool gaussian_mixture_posterior(Random& random, const double* y, double* theta) {
    gaussian_mixture(random, y, theta);
    return true;
}

// slcp, simple likelihood and complex posterior: theta ~ U(-3, 3)^5; y is four points (x_1, y_1, ..., x_4, y_4) of a
// normal distribution with mean (theta_1, theta_2), standard deviations theta_3^2 and theta_4^2 and correlation
// tanh(theta_5). sbibm adds 1e-6 to both variances, and has posterior samples of ten observations only, by a fitted
// proposal.

constexpr int kPoints = 4;

/// A draw from N(0, S), S as theta_3 .. theta_5 say.
PlanePoint slcp_deviation(Random& random, const double* theta) {
    const double first = random.normal(), second = random.normal();
    return {theta[2] * theta[2] * first,
            theta[3] * theta[3] * (std::tanh(theta[4]) * first + second / std::cosh(theta[4]))};
}

void slcp(Random& random, const double* theta, double* y) {
    for (int i = 0; i < kPoints; ++i) {
        const PlanePoint away = slcp_deviation(random, theta);
        y[2 * i] = theta[0] + away.x, y[2 * i + 1] = theta[1] + away.y;
    }
}

/// What the likelihood of the four points depends on: their mean and scatter, the sums of the products of deviations.
struct Scatter {
    PlanePoint mean{0, 0};
    double xx = 0, xy = 0, yy = 0;
};

Scatter scatter_of(const double* y) {
    Scatter s;
    for (int i = 0; i < kPoints; ++i) s.mean.x += y[2 * i] / kPoints, s.mean.y += y[2 * i + 1] / kPoints;
    for (int i = 0; i < kPoints; ++i) {
        const double dx = y[2 * i] - s.mean.x, dy = y[2 * i + 1] - s.mean.y;
        s.xx += dx * dx, s.xy += dx * dy, s.yy += dy * dy;
    }
    return s;
}

/// The square root of a draw from the chi-squared distribution, of any degrees of freedom above 0 (Marsaglia and Tsang
/// 2000, "A simple method for generating gamma variables").
double chi(Random& random, double degrees) {
    if (degrees < 2) return chi(random, degrees + 2) * std::pow(random.uniform(), 1 / degrees);
    const double d = degrees / 2 - 1.0 / 3, c = 1 / std::sqrt(9 * d);
    while (true) {
        const double x = random.normal(), v = std::pow(1 + c * x, 3);
        if (v > 0 && std::log(random.uniform()) < x * x / 2 + d * (1 - v + std::log(v))) return std::sqrt(2 * d * v);
    }
}

/// Exact, by inverse Wishart proposals. Under a flat prior the mean is N(mean of the points, S / 4) given S, and with
/// it integrated out the density of theta_3 .. theta_5 is
///   w = |S|^(-3/2) exp(-tr(S^-1 scatter) / 2).
/// As dS = 16 |theta_3 theta_4|^5 (1 - rho^2) dtheta, that of S is |S|^(-5/2) |theta_3 theta_4|^-1 exp(...), which is
/// the density |S|^(-(nu + 3) / 2) exp(...) of an inverse Wishart distribution with nu = 2.5 times (1 - rho^2)^(1/4),
/// the probability to accept. Its draws are S_11 = xx / chi^2(1.5), S_22 (1 - rho^2) = (yy - xy^2 / xx) / chi^2(2.5)
/// and S_12 / S_11 from a normal distribution around xy / xx. Nothing here cancels at small S or at rho near 1.
bool slcp_posterior(Random& random, const double* y, double* theta) {
    constexpr double kNu = 2.5;
    const Scatter s = scatter_of(y);
    const double rest = std::sqrt(s.yy - s.xy * s.xy / s.xx);
    const double chi_1 = chi(random, kNu - 1), chi_2 = chi(random, kNu);
    const double sinh_t5 = (s.xy / (std::sqrt(s.xx) * rest) * chi_2 + random.normal()) / chi_1;
    const double cosh_t5 = std::hypot(1, sinh_t5);  // 1 - rho^2 = 1 / cosh^2(theta_5)
    if (!(random.uniform() < 1 / std::sqrt(cosh_t5))) return false;
    theta[2] = (random.below(2) ? 1 : -1) * std::sqrt(std::sqrt(s.xx) / chi_1);
    theta[3] = (random.below(2) ? 1 : -1) * std::sqrt(rest * cosh_t5 / chi_2);
    theta[4] = std::asinh(sinh_t5);
    const PlanePoint away = slcp_deviation(random, theta);
    theta[0] = s.mean.x + away.x / 2, theta[1] = s.mean.y + away.y / 2;
    return true;
}

bool inside(const Simulator& task, const double* theta) {
    return !task.bounds || std::all_of(theta, theta + task.parameters,
                                       [&](double t) { return task.bounds->first <= t && t <= task.bounds->second; });
}

}  // namespace

torch::Tensor Simulator::prior(uint64_t seed, int64_t first, int64_t count) const {
    return draw_rows({seed, Purpose::kPrior, uint64_t(first)}, count, parameters,
                     [&](Random& random, int64_t, double* theta) { draw_prior(random, *this, theta); });
}

torch::Tensor Simulator::simulate(const torch::Tensor& theta, uint64_t seed, int64_t first) const {
    TORCH_INTERNAL_ASSERT(theta.dim() == 2 && theta.size(1) == parameters);
    const auto from = theta.to(torch::kCPU, torch::kFloat64).contiguous();
    const double* const in = from.data_ptr<double>();
    return draw_rows({seed, Purpose::kSimulation, uint64_t(first)}, theta.size(0), observations,
                     [&](Random& random, int64_t i, double* y) { draw_observation(random, in + i * parameters, y); });
}

torch::Tensor Simulator::posterior(const torch::Tensor& y, uint64_t seed, int64_t count) const {
    TORCH_INTERNAL_ASSERT(y.dim() == 1 && y.size(0) == observations);
    const auto from = y.to(torch::kCPU, torch::kFloat64).contiguous();
    return draw_rows({seed, Purpose::kPosterior, 0}, count, parameters, [&](Random& random, int64_t, double* theta) {
        for (int64_t i = 0; i < kTries; ++i) {
            if (propose(random, from.data_ptr<double>(), theta) && inside(*this, theta)) return;
        }
        throw Error(name + ": the observation is too far from what the prior can make; take one that it simulates");
    });
}

const Table<Simulator>& simulators() {
    static const Table<Simulator> table = [] {
        const std::vector<Simulator> tasks = {
            {"gaussian-linear", kDimensions, kDimensions, std::nullopt, gaussian_linear_prior, gaussian_linear,
             gaussian_linear_posterior},
            {"two-moons", 2, 2, std::pair(-1.0, 1.0), uniform_prior, two_moons, two_moons_posterior},
            {"gaussian-mixture", 2, 2, std::pair(-10.0, 10.0), uniform_prior, gaussian_mixture,
             gaussian_mixture_posterior},
            {"slcp", 5, 2 * kPoints, std::pair(-3.0, 3.0), uniform_prior, slcp, slcp_posterior}};
        Table<Simulator> all;
        for (const Simulator& task : tasks) all.emplace_back(task.name, task);
        return all;
    }();
    return table;
}

}  // namespace diffuse
