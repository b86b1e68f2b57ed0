#include "diffuse/data/simulators.hpp"

#include <ATen/Parallel.h>

#include <numbers>

#include "testing.hpp"

namespace diffuse {
namespace {

const Simulator& simulator_of(const std::string& name) { return look_up("simulator", simulators(), name); }

/// Five standard errors, which the numbers themselves tell, around the mean that they should have. values: [N]
void expect_mean(const torch::Tensor& values, double expected, const std::string& what) {
    const double error = values.std().item<double>() / std::sqrt(double(values.numel()));
    EXPECT_NEAR(values.mean().item<double>(), expected, 5 * error) << what;
}

/// Mean and covariance of each column and pair of columns of x: [N, D], within five standard errors.
void expect_moments(const torch::Tensor& x, const torch::Tensor& mean, const torch::Tensor& covariance) {
    const auto away = x - mean;
    for (int64_t i = 0; i < x.size(1); ++i) {
        expect_mean(away.select(1, i), 0, "mean of " + std::to_string(i));
        for (int64_t j = 0; j <= i; ++j) {
            expect_mean(away.select(1, i) * away.select(1, j), covariance[i][j].item<double>(),
                        "covariance of " + std::to_string(i) + " and " + std::to_string(j));
        }
    }
}

torch::Tensor vector_of(const std::vector<double>& values) { return torch::tensor(values, torch::kFloat64); }

/// `count` observations of one theta.
torch::Tensor repeated(const Simulator& simulator, const torch::Tensor& theta, int64_t count) {
    return simulator.simulate(theta.expand({count, -1}), 11, 0);
}

TEST(Simulator, PriorAndObservationsAreFunctionsOfTheSeedAndTheIndex) {
    for (const auto& [name, simulator] : simulators()) {
        SCOPED_TRACE(name);
        const auto theta = simulator.prior(5, 0, 200), y = simulator.simulate(theta, 9, 0);
        EXPECT_EQ(theta.sizes(), (torch::IntArrayRef{200, simulator.parameters}));
        EXPECT_EQ(y.sizes(), (torch::IntArrayRef{200, simulator.observations}));
        EXPECT_EQ(theta.scalar_type(), torch::kFloat64);
        EXPECT_TRUE(torch::equal(theta.slice(0, 7, 107), simulator.prior(5, 7, 100)));
        EXPECT_TRUE(torch::equal(y.slice(0, 7, 107), simulator.simulate(theta.slice(0, 7, 107), 9, 7)));
        EXPECT_FALSE(torch::equal(theta, simulator.prior(6, 0, 200)));
        EXPECT_FALSE(torch::equal(y, simulator.simulate(theta, 10, 0)));
        EXPECT_EQ(simulator.prior(5, 0, 0).size(0), 0);
    }
}

TEST(Simulator, PosteriorSamplesAreFunctionsOfTheSeedAndTheIndexOnAnyNumberOfThreads) {
    const int threads = at::get_num_threads();
    for (const auto& [name, simulator] : simulators()) {
        SCOPED_TRACE(name);
        const auto y = simulator.simulate(simulator.prior(5, 0, 1), 9, 0)[0];
        at::set_num_threads(1);
        const auto samples = simulator.posterior(y, 3, 300);
        at::set_num_threads(3);
        EXPECT_EQ(samples.sizes(), (torch::IntArrayRef{300, simulator.parameters}));
        EXPECT_TRUE(torch::equal(samples, simulator.posterior(y, 3, 300)));
        EXPECT_TRUE(torch::equal(samples.slice(0, 0, 50), simulator.posterior(y, 3, 50)));
        EXPECT_FALSE(torch::equal(samples, simulator.posterior(y, 4, 300)));
        if (simulator.bounds) {
            EXPECT_GE(samples.min().item<double>(), simulator.bounds->first);
            EXPECT_LE(samples.max().item<double>(), simulator.bounds->second);
        }
    }
    at::set_num_threads(threads);
}

TEST(Simulator, UniformPriorsFillTheirBounds) {
    for (const auto& [name, simulator] : simulators()) {
        if (!simulator.bounds) continue;
        SCOPED_TRACE(name);
        const auto [low, high] = *simulator.bounds;
        const auto theta = simulator.prior(1, 0, 20'000);
        EXPECT_GE(theta.min().item<double>(), low);
        EXPECT_LE(theta.max().item<double>(), high);
        const auto one = torch::ones(simulator.parameters, torch::kFloat64);
        expect_moments(theta, (low + high) / 2 * one, torch::diag(std::pow(high - low, 2) / 12 * one));
    }
}

TEST(Simulator, GaussianLinearIsNormalAndSoIsItsPosterior) {
    const Simulator& simulator = simulator_of("gaussian-linear");
    const auto zero = torch::zeros(10, torch::kFloat64), unit = torch::eye(10, torch::kFloat64);
    const auto theta = simulator.prior(1, 0, 20'000);
    expect_moments(theta, zero, 0.1 * unit);
    expect_moments(simulator.simulate(theta, 2, 0) - theta, zero, 0.1 * unit);
    const auto y = torch::linspace(-1, 1, 10, torch::kFloat64);
    expect_moments(simulator.posterior(y, 3, 20'000), y / 2, 0.05 * unit);
}

TEST(Simulator, GaussianMixtureIsTwoRoundNormalDistributions) {
    const Simulator& simulator = simulator_of("gaussian-mixture");
    const auto theta = vector_of({4, -7});
    const auto y = repeated(simulator, theta, 100'000), squared = (y - theta).square();
    expect_moments(y, theta, 0.505 * torch::eye(2, torch::kFloat64));
    expect_mean(squared.select(1, 0).square(), 3 * (1 + 1e-4) / 2, "fourth moment");
    expect_mean(squared.prod(1), (1 + 1e-4) / 2, "product of squares: both numbers are of the same one");
}

TEST(Simulator, TwoMoonsHaveTheMomentsOfAHalfRing) {
    const auto y = repeated(simulator_of("two-moons"), vector_of({0.3, -0.7}), 100'000);
    // Of cos a: mean 2 / pi and mean square 1/2; of r: mean 0.1 and mean square 0.0101.
    const double mean = 0.1 * 2 / std::numbers::pi, square = 0.0101 / 2;
    const auto covariance = torch::diag(vector_of({square - mean * mean, square}));
    expect_moments(y, vector_of({0.25 + mean - 0.4 / std::numbers::sqrt2, -1 / std::numbers::sqrt2}), covariance);
}

TEST(Simulator, SlcpMakesFourIndependentPointsOfANormalDistribution) {
    const auto y = repeated(simulator_of("slcp"), vector_of({0.5, -2, 1.2, -0.8, 0.6}), 100'000);
    const double s1 = 1.44, s2 = 0.64, both = std::tanh(0.6) * s1 * s2;
    const auto one = torch::stack({vector_of({s1 * s1, both}), vector_of({both, s2 * s2})});
    expect_moments(y, vector_of({0.5, -2}).repeat(4), torch::kron(torch::eye(4, torch::kFloat64), one));
}

TEST(Simulator, TwoMoonsPosteriorGoesBackToTheHalfRing) {
    // From here every point of the half ring leads to parameters inside the prior's box.
    const auto y = vector_of({-0.1, 0.1});
    const auto theta = simulator_of("two-moons").posterior(y, 1, 50'000);
    const auto sum = theta.sum(1), difference = theta.select(1, 1) - theta.select(1, 0);
    const auto right = y[0] + sum.abs() / std::numbers::sqrt2 - 0.25, up = y[1] - difference / std::numbers::sqrt2;
    const auto radius = torch::hypot(right, up), angle = torch::atan2(up, right);
    expect_mean(radius, 0.1, "radius");
    expect_mean((radius - 0.1).square(), 1e-4, "variance of the radius");
    expect_mean(angle, 0, "angle");
    expect_mean(angle.square(), std::pow(std::numbers::pi, 2) / 12, "a uniform angle's square");
    EXPECT_GE(right.min().item<double>(), 0);
    expect_mean(sum.sign(), 0, "the two moons");
    expect_mean(sum.sign() * angle, 0, "the two moons are mirror images");
}

TEST(Simulator, TwoMoonsPosteriorLeavesOutThePartOfTheHalfRingToWhichNoThetaLeads) {
    // With y inside the half ring only its points to the right of y, at 0.3, are left.
    const auto y = vector_of({0.3, 0});
    const auto theta = simulator_of("two-moons").posterior(y, 1, 50'000);
    const auto right = y[0] + theta.sum(1).abs() / std::numbers::sqrt2 - 0.25;
    const auto up = (theta.select(1, 0) - theta.select(1, 1)) / std::numbers::sqrt2;
    // The cut moves the variance of the radius, 1e-4, by 1.4%; its standard error is 0.6%. Mirrored points would triple
    // it.
    EXPECT_NEAR((torch::hypot(right, up) - 0.1).square().mean().item<double>(), 1e-4, 5e-6);
}

TEST(Simulator, GaussianMixturesPosteriorIsCutOffAtTheBox) {
    // On the box's edge half of each normal distribution is left, whose mean is sqrt(2 / pi) standard deviations away.
    const auto theta = simulator_of("gaussian-mixture").posterior(vector_of({10, 0}), 1, 100'000);
    const auto inwards = 10 - theta.select(1, 0), along = theta.select(1, 1);
    expect_mean(inwards, (1 + 0.1) / 2 * std::sqrt(2 / std::numbers::pi), "mean distance from the edge");
    expect_mean(inwards.square(), 0.505, "mean square of the distance");
    expect_mean(along, 0, "mean along the edge");
    expect_mean(along.square(), 0.505, "variance along the edge");
    expect_mean((inwards * along).square(), (1 + 1e-4) / 2, "product of squares: both numbers are of the same one");
}

/// What ranks are taken of: each parameter, its size, on which the signs of two-moons and slcp do not depend, and the
/// size of their sum. [N, D] -> [N, 2 D + 1]
torch::Tensor statistics(const torch::Tensor& theta) {
    return torch::cat({theta, theta.abs(), theta.sum(1, true).abs()}, 1);
}

/// How often in each of 10 bins, [2 D + 1, 10], the parameters that made y stand among 99 samples given y.
torch::Tensor rank_counts(const Simulator& simulator, int64_t draws) {
    const auto theta = simulator.prior(21, 0, draws), y = simulator.simulate(theta, 22, 0), at = statistics(theta);
    auto counts = torch::zeros({at.size(1), 10}, torch::kFloat64);
    for (int64_t i = 0; i < draws; ++i) {
        const auto rank = (statistics(simulator.posterior(y[i], 1000 + uint64_t(i), 99)) < at[i]).sum(0);
        for (int64_t j = 0; j < at.size(1); ++j) counts[j][rank[j].item<int64_t>() / 10] += 1;
    }
    return counts;
}

TEST(Simulator, PosteriorsAreCalibrated) {
    // Simulation-based calibration (Talts et al. 2018): theta and the samples of p(theta | y) come from the same
    // distribution given y, so the rank of one among 99 is uniform. Chi-squared of 9 degrees of freedom exceeds 33.72
    // with probability 1e-4.
    const int64_t draws = 1000;
    for (const auto& [name, simulator] : simulators()) {
        const auto counts = rank_counts(simulator, draws);
        const auto chi_squared = ((counts - draws / 10.0).square() / (draws / 10.0)).sum(1);
        for (int64_t j = 0; j < chi_squared.size(0); ++j) {
            EXPECT_LT(chi_squared[j].item<double>(), 33.72) << name << ", statistic " << j << ": " << counts[j];
        }
    }
}

torch::Tensor log_normal(const torch::Tensor& away, const torch::Tensor& std) {
    return -(away / std).square() / 2 - std.log() - std::log(2 * std::numbers::pi) / 2;
}

/// log of the density of slcp's four points, integrated over the mean in the whole plane:
/// |S|^(-3/2) exp(-tr(S^-1 scatter) / 2) / (4 (2 pi)^3). t3, t4, t5 of any shape.
torch::Tensor slcp_log_weight(const torch::Tensor& y, const torch::Tensor& t3, const torch::Tensor& t4,
                              const torch::Tensor& t5) {
    const auto points = y.view({4, 2}), away = points - points.mean(0), scatter = away.t().matmul(away);
    const auto s1 = t3.square(), s2 = t4.square(), rho = t5.tanh(), rest = 1 - rho.square();
    const auto trace =
        (scatter[0][0] / s1.square() - 2 * rho * scatter[0][1] / (s1 * s2) + scatter[1][1] / s2.square()) / rest;
    const auto log_det = (s1.square() * s2.square() * rest).log();
    return -1.5 * log_det - trace / 2 - std::log(4 * std::pow(2 * std::numbers::pi, 3));
}

const torch::Tensor kSlcpObservation = vector_of({0.5, -1.3, 1.9, 0.4, 0.9, 0.9, -0.7, -0.6});

TEST(Simulator, SlcpsWeightIsTheLikelihoodIntegratedOverTheMean) {
    const auto points = kSlcpObservation.view({4, 2});
    for (const auto& t : {vector_of({1, 1, 0}), vector_of({0.7, 1.4, 2.9}), vector_of({1.6, 0.8, -1.2})}) {
        const auto s1 = t[0].square(), s2 = t[1].square(), rho = t[2].tanh(), rest = (1 - rho.square()).sqrt();
        const auto mean = points.mean(0), around = torch::linspace(-5, 5, 801, torch::kFloat64);  // 10 std of the mean
        const auto m1 = mean[0] + s1 * around.view({-1, 1}), m2 = mean[1] + s2 * around.view({1, -1});
        auto log_density = torch::zeros({801, 801}, torch::kFloat64);
        for (int64_t i = 0; i < 4; ++i) {
            const auto from_first = m2 + rho * s2 / s1 * (points[i][0] - m1);
            log_density += log_normal(points[i][0] - m1, s1) + log_normal(points[i][1] - from_first, s2 * rest);
        }
        const auto integral = log_density.flatten().logsumexp(0) + (s1 * s2 / 80 / 80).log();
        EXPECT_NEAR(integral.item<double>(), slcp_log_weight(kSlcpObservation, t[0], t[1], t[2]).item<double>(), 1e-6);
    }
}

/// The probability that a mean from N(mean of the points, S / 4) is inside the prior's box; the midpoint rule in the
/// first number, the normal distribution function in the other.
torch::Tensor probability_inside(const torch::Tensor& y, const torch::Tensor& t3, const torch::Tensor& t4,
                                 const torch::Tensor& t5) {
    const auto mean = y.view({4, 2}).mean(0), s1 = t3.square() / 2, s2 = t4.square() / 2, rho = t5.tanh();
    const auto std = s2 * (1 - rho.square()).sqrt() * std::numbers::sqrt2;
    auto total = torch::zeros_like(s1 * s2 * rho);
    for (int i = 0; i < 60; ++i) {
        const auto away = -2.95 + 0.1 * i - mean[0], middle = mean[1] + rho * s2 / s1 * away;
        total += 0.1 * log_normal(away, s1).exp() * (((3 - middle) / std).erf() + ((3 + middle) / std).erf()) / 2;
    }
    return total;
}

TEST(Simulator, SlcpsPosteriorHasTheMomentsOfItsDensityOnAGrid) {
    // The midpoint rule in 30 x 30 x 30 cells is off by less than a twentieth of the tolerance of five standard errors.
    const auto scale = (torch::arange(30, torch::kFloat64) + 0.5) / 10;
    const auto t3 = scale.view({-1, 1, 1}), t4 = scale.view({1, -1, 1}), t5 = 2 * scale.view({1, 1, -1}) - 3;
    const auto weight =
        slcp_log_weight(kSlcpObservation, t3, t4, t5).exp() * probability_inside(kSlcpObservation, t3, t4, t5);
    const auto on_grid = [&](const torch::Tensor& values) {
        return ((weight * values).sum() / weight.sum()).item<double>();
    };
    const auto theta = simulator_of("slcp").posterior(kSlcpObservation, 1, 100'000);
    const auto a = theta.select(1, 2).abs(), b = theta.select(1, 3).abs(), c = theta.select(1, 4);
    expect_mean(a, on_grid(t3), "theta_3");
    expect_mean(b, on_grid(t4), "theta_4");
    expect_mean(c, on_grid(t5), "theta_5");
    expect_mean(a.square(), on_grid(t3.square()), "theta_3^2");
    expect_mean(b.square(), on_grid(t4.square()), "theta_4^2");
    expect_mean(c.square(), on_grid(t5.square()), "theta_5^2");
    expect_mean(a * b, on_grid(t3 * t4), "theta_3 theta_4");
    expect_mean(a * c, on_grid(t3 * t5), "theta_3 theta_5");
    expect_mean(theta.select(1, 2).sign() * theta.select(1, 3).sign(), 0, "signs");
}

TEST(Simulator, AnObservationThatThePriorCannotMakeIsRefused) {
    for (const auto& [name, simulator] : simulators()) {
        if (!simulator.bounds) continue;
        auto y = torch::full(simulator.observations, 100.0, torch::kFloat64);
        const auto refusal = name + ": the observation is too far from what the prior can make";
        expect_contains(error_of([&] { simulator.posterior(y, 1, 200); }), refusal);
        y += torch::arange(simulator.observations, torch::kFloat64).square();
        expect_contains(error_of([&] { simulator.posterior(y, 1, 200); }), refusal);
        y[0] = std::nan("");
        expect_contains(error_of([&] { simulator.posterior(y, 1, 200); }), refusal);
    }
}

}  // namespace
}  // namespace diffuse
