#include <cmath>

#include "diffuse/base/random.hpp"
#include "diffuse/solve/integrate.hpp"
#include "lab/experiments.hpp"
#include "testing.hpp"

/// How fast the solvers of SDEs come near to what they solve, and what is left, on Gaussian data, mostly without a
/// single draw.
namespace diffuse {
namespace {

constexpr double kVariance = 0.25;  // variance

/// Of the noisy data at a level.
double marginal(const NoiseLevel& level) { return level.alpha * level.alpha * kVariance + level.sigma * level.sigma; }

/// Levels at equal distances in the process's time.
Grid at_times(const Schedule& schedule, double first, double last, int64_t steps) {
    Grid grid;
    for (int64_t i = 0; i <= steps; ++i) {
        grid.push_back(schedule.at(first + (last - first) * double(i) / double(steps)));
    }
    return grid;
}

/// The slope of log(error) over log(step size).
double slope_of(const std::vector<int64_t>& counts, const std::function<double(int64_t steps)>& error) {
    std::vector<double> h, errors;
    for (const int64_t steps : counts) h.push_back(1.0 / double(steps)), errors.push_back(error(steps));
    return lab::slope(h, errors);
}

/// The error of the variance at the end of a way that begins with that of noisy data, which the exact process keeps.
double weak_error(const Schedule& schedule, const std::string& name, double eta, int64_t steps, double last = 100) {
    const Grid grid = at_times(schedule, 900, last, steps);
    SolverOptions options = on_schedule(schedule, eta);
    options.churn = 0;
    double variance = marginal(grid.front());
    for (size_t i = 0; i + 1 < grid.size(); ++i) {
        const auto solver = make_solver(name, options);
        variance = variance_after(*solver, centred_gaussian(kVariance), variance, grid[i], grid[i + 1]);
    }
    return std::abs(variance - marginal(grid.back()));
}

TEST(ProcessOrder, OfTheVarianceIsThatOfTheory) {
    const std::vector<int64_t> counts = {200, 283, 400, 566, 800};
    struct Row {
        std::string solver;
        double eta, order;
    };
    // The weak order of Euler-Maruyama is 1 for any noise (Kloeden & Platen 1992, theorem 14.5.2); without churn
    // edm-sde is Heun's method.
    const std::vector<Row> rows = {{"euler-maruyama", 1, 1}, {"euler-maruyama", 0.5, 1},
                                   {"euler-maruyama", 0, 1}, {"reverse-diffusion", 0, 1},
                                   {"ddpm", 0, 1},           {"edm-sde", 0, 2}};
    for (const auto& kind : {"vp", "sub-vp", "flow"}) {
        const Schedule schedule = make_schedule({.kind = kind});
        for (const auto& row : rows) {
            const double order =
                slope_of(counts, [&](int64_t steps) { return weak_error(schedule, row.solver, row.eta, steps); });
            // 0.15: what the next term of the error leaves of the slope at these counts
            EXPECT_NEAR(order, row.order, 0.15) << row.solver << " with eta " << row.eta << " on " << kind;
        }
    }
}

// On ve, sigma = sigma_min q^u, Euler-Maruyama's variance at the end is off by h log(q) v^2 [1/V - c/V^2] between the
// ends' variances V = c + sigma^2 (c that of the data, v the last V), to first order in h: of order 1 where the way
// ends amid the noise, while from noise without bound to data without noise the whole term is zero.
TEST(ProcessOrder, OfEulerMaruyamaOnVeIsOneAndItsFirstTermIsZeroOverTheWholeWay) {
    const Schedule ve = make_schedule({.kind = "ve"});
    const double log_q = std::log(50 / 0.01);
    const auto term = [&](double last, int64_t steps) {
        const auto part = [](double v) { return 1 / v - kVariance / (v * v); };
        const double v = marginal(ve.at(last)), h = (900 - last) / 1000 / double(steps);
        return h * log_q * v * v * (part(v) - part(marginal(ve.at(900))));
    };
    const double half_way = 460;  // sigma = 0.50, the standard deviation of the data
    for (const int64_t steps : {1600, 3200}) {
        const double error = weak_error(ve, "euler-maruyama", 1, steps, half_way);
        EXPECT_NEAR(error / std::abs(term(half_way, steps)), 1, 20.0 / double(steps)) << steps;  // the next term
    }
    EXPECT_LT(std::abs(term(100, 1)), 0.02 * std::abs(term(half_way, 1)));
}

// The noise does not depend on the state, and for such an SDE Euler-Maruyama has the strong order 1 instead of 1/2
// (Kloeden & Platen 1992, section 10.3: it is Milstein's method).
TEST(ProcessOrder, OfThePathsOfEulerMaruyamaIsOne) {
    const Schedule vp = make_schedule({.kind = "vp"});
    constexpr int64_t kFine = 8192, kPaths = 500;
    const auto increments = normal({kFine, kPaths, 1}, {11, Purpose::kSamplingNoise, 1}).to(torch::kFloat64);
    const auto start = normal({kPaths, 1}, {11, Purpose::kSamplingNoise, 2}).to(torch::kFloat64);
    const auto end_in = [&](int64_t steps) {
        const int64_t together = kFine / steps;  // of the same Brownian path
        const StepNoise noise = [&](int64_t step, int64_t) {
            return increments.narrow(0, step * together, together).sum(0) / std::sqrt(double(together));
        };
        const auto solver = make_solver("euler-maruyama", {.eta = 1, .schedule = std::make_shared<Schedule>(vp)});
        return integrate(*solver, centred_gaussian(kVariance), start, at_times(vp, 900, 100, steps), noise,
                         ignore_step);
    };
    const auto fine = end_in(kFine);
    const double order = slope_of({32, 64, 128, 256}, [&](int64_t steps) {
        return (end_in(steps) - fine).square().mean().sqrt().item<double>();
    });
    EXPECT_NEAR(order, 1, 0.15);  // the reference's own error, 1/32 of the smallest one, and the next term
}

TEST(ProcessOrder, TheExactOdeFromStandardNoiseKeepsWhatTheStartLacks) {
    const Schedule vp = make_schedule({.kind = "vp"});
    const auto solver = make_solver("dopri5", {.tolerance = 1e-9});
    const double variance = variance_after(*solver, centred_gaussian(kVariance), 1, vp.at(1000), NoiseLevel{}, 0);
    EXPECT_NEAR(variance, 0.2500081, 5e-8);
    EXPECT_NEAR(variance, kVariance / marginal(vp.at(1000)), 1e-7);  // deviations scale like the marginal's
}

TEST(ProcessOrder, TheCorrectorHasTheBiasOfTheUnadjustedAlgorithm) {
    // With h = 2 (snr sigma)^2 the stationary variance V of V (1 - h / v)^2 + 2 h is v / (1 - h / (2 v)), in any number
    // of dimensions. Where from = to, the predictor leaves x as it is.
    const NoiseLevel level = level_of_ratio(0.5);
    const double snr = 0.5, v = marginal(level), h = 2 * std::pow(snr * level.sigma, 2);
    double variance = 1;
    for (int i = 0; i < 100; ++i) {
        const auto solver = make_solver("pc", {.snr = snr});
        variance = variance_after(*solver, centred_gaussian(kVariance), variance, level, level, /*noises=*/2);
    }
    EXPECT_NEAR(variance, v / (1 - h / (2 * v)), 1e-9);
}

// Karras et al. 2022, algorithm 2 from 80 to data in 18 steps, as a recursion of its own.
TEST(ProcessOrder, ChurnOnEdmsWholeGridFollowsTheRecursion) {
    constexpr int64_t kSteps = 18;
    std::vector<double> sigmas;
    for (int i = 0; i < kSteps; ++i) {
        sigmas.push_back(std::pow(
            std::pow(80, 1 / 7.0) + double(i) / (kSteps - 1) * (std::pow(0.002, 1 / 7.0) - std::pow(80, 1 / 7.0)), 7));
    }
    sigmas.push_back(0);
    const Churn churn{.amount = 30, .min = 0.01, .max = 1, .noise = 1.007};
    double expected = 6400, found = 6400;
    for (size_t i = 0; i < kSteps; ++i) {
        const double t = sigmas[i], next = sigmas[i + 1];
        const double gamma = t >= 0.01 && t <= 1 ? std::min(30.0 / kSteps, std::sqrt(2.0) - 1) : 0, up = t + gamma * t;
        const auto slope = [](double at) { return at / (kVariance + at * at); };
        const double euler = 1 + (next - up) * slope(up);
        const double factor = next > 0 ? 1 + (next - up) / 2 * (slope(up) + slope(next) * euler) : euler;
        expected = factor * factor * (expected + (up * up - t * t) * 1.007 * 1.007);
        found = variance_after(*make_edm_sde(churn, kSteps), centred_gaussian(kVariance), found, {1, t}, {1, next});
    }
    EXPECT_NEAR(found, expected, 1e-9 * expected);
}

TEST(ProcessOrder, EveryEtaHasTheSameMarginalsInTheLimit) {
    const Schedule vp = make_schedule({.kind = "vp"});
    for (const double eta : {0.0, 0.5, 1.0}) {
        EXPECT_LT(weak_error(vp, "euler-maruyama", eta, 6400), 1e-3 * kVariance) << eta;  // of order 1 / 6400
    }
}

}  // namespace
}  // namespace diffuse
