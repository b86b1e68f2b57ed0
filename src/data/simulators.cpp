#include "diffuse/data/simulators.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "diffuse/base/random.hpp"

namespace diffuse {
namespace {

constexpr int64_t kGrain = 64;  // rows that are worth a thread of their own
/// Proposals that a sample may need; slcp: 8 for most observations, but above 3,000 for one in a hundred.
constexpr int64_t kTries = 1'000'000;

/// How the rows of a simulator are drawn, one at a time.
struct Rows {
    std::string name;
    int64_t parameters, observations;
    std::optional<std::pair<double, double>> bounds;
    void (*prior)(Random& random, const Rows& rows, double* theta);
    void (*simulate)(Random& random, const double* theta, double* y);
    /// Draws from the posterior as it would be without the bounds; false: the draw is rejected.
    bool (*propose)(Random& random, const double* y, double* theta);
};

void uniform_prior(Random& random, const Rows& rows, double* theta) {
    std::generate_n(theta, rows.parameters, [&] { return random.uniform(rows.bounds->first, rows.bounds->second); });
}

// gaussian-linear

constexpr int64_t kDimensions = 10;
const double kStd = std::sqrt(0.1);  // of the prior and of the simulator

void gaussian_linear_prior(Random& random, const Rows&, double* theta) {
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

// two-moons

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

// gaussian-mixture

void gaussian_mixture(Random& random, const double* theta, double* y) {
    const double std = random.below(2) ? 1 : 0.1;
    std::transform(theta, theta + 2, y, [&](double t) { return t + std * random.normal(); });
}

/// Under a flat prior theta lies around y as y does around theta.
bool gaussian_mixture_posterior(Random& random, const double* y, double* theta) {
    gaussian_mixture(random, y, theta);
    return true;
}

// slcp

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

// from rows to tensors

/// float64 [count, width], row i by draw(Random of index first + i, i, out).
torch::Tensor draw_rows(const Key& first, int64_t count, int64_t width,
                        const std::function<void(Random& random, int64_t row, double* out)>& draw) {
    auto rows = torch::empty({count, width}, torch::kFloat64);
    double* const out = rows.data_ptr<double>();
    at::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            Random random({first.seed, first.purpose, first.index + uint64_t(i)});
            draw(random, i, out + i * width);
        }
    });
    return rows;
}

bool inside(const Rows& rows, const double* theta) {
    return !rows.bounds || std::all_of(theta, theta + rows.parameters,
                                       [&](double t) { return rows.bounds->first <= t && t <= rows.bounds->second; });
}

void draw_posterior(const Rows& rows, Random& random, const double* y, double* theta) {
    for (int64_t i = 0; i < kTries; ++i) {
        if (rows.propose(random, y, theta) && inside(rows, theta)) return;
    }
    throw Error(rows.name + ": the observation is too far from what the prior can make; take one that it simulates");
}

Simulator simulator(const Rows& rows) {
    const auto prior = [rows](uint64_t seed, int64_t first, int64_t count) {
        return draw_rows({seed, Purpose::kPrior, uint64_t(first)}, count, rows.parameters,
                         [&](Random& random, int64_t, double* theta) { rows.prior(random, rows, theta); });
    };
    const auto simulate = [rows](const torch::Tensor& theta, uint64_t seed, int64_t first) {
        TORCH_INTERNAL_ASSERT(theta.dim() == 2 && theta.size(1) == rows.parameters);
        const auto from = theta.to(torch::kCPU, torch::kFloat64).contiguous();
        const double* const in = from.data_ptr<double>();
        return draw_rows(
            {seed, Purpose::kSimulation, uint64_t(first)}, theta.size(0), rows.observations,
            [&](Random& random, int64_t i, double* y) { rows.simulate(random, in + i * rows.parameters, y); });
    };
    const auto posterior = [rows](const torch::Tensor& y, uint64_t seed, int64_t count) {
        TORCH_INTERNAL_ASSERT(y.dim() == 1 && y.size(0) == rows.observations);
        const auto from = y.to(torch::kCPU, torch::kFloat64).contiguous();
        const double* const in = from.data_ptr<double>();
        return draw_rows({seed, Purpose::kPosterior, 0}, count, rows.parameters,
                         [&](Random& random, int64_t, double* theta) { draw_posterior(rows, random, in, theta); });
    };
    return {rows.parameters, rows.observations, rows.bounds, prior, simulate, posterior};
}

Table<Simulator> all_simulators() {
    const std::vector<Rows> tasks = {
        {"gaussian-linear", kDimensions, kDimensions, std::nullopt, gaussian_linear_prior, gaussian_linear,
         gaussian_linear_posterior},
        {"two-moons", 2, 2, std::pair(-1.0, 1.0), uniform_prior, two_moons, two_moons_posterior},
        {"gaussian-mixture", 2, 2, std::pair(-10.0, 10.0), uniform_prior, gaussian_mixture, gaussian_mixture_posterior},
        {"slcp", 5, 2 * kPoints, std::pair(-3.0, 3.0), uniform_prior, slcp, slcp_posterior},
    };
    Table<Simulator> table;
    for (const Rows& rows : tasks) table.emplace_back(rows.name, simulator(rows));
    return table;
}

}  // namespace

const Table<Simulator>& simulators() {
    static const Table<Simulator> table = all_simulators();
    return table;
}

}  // namespace diffuse
