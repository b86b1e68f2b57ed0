#include <cmath>

#include "diffuse/base/random.hpp"
#include "diffuse/diffusion/objective.hpp"
#include "diffuse/solve/integrate.hpp"
#include "diffuse/train/batch.hpp"
#include "testing.hpp"

/// Continuous paths, their SDEs and the solvers on them, against closed forms on Gaussian data.
namespace diffuse {
namespace {

const std::vector<std::string> kPaths = {"vp", "sub-vp", "ve", "edm", "flow", "cosine-vp"};

double variance_along(const std::string& name, double eta, const Schedule& schedule, double data_variance,
                      const Grid& grid) {
    double variance = 1;
    for (size_t i = 0; i + 1 < grid.size(); ++i) {
        const auto solver = make_solver(name, on_schedule(schedule, eta));
        variance = variance_after(*solver, centred_gaussian(data_variance), variance, grid[i], grid[i + 1]);
    }
    return variance;
}

/// Uniform in t from T to 0. `end`: the last level, data or next to it, where a solver is to go on as everywhere.
Grid uniform_to(const Schedule& schedule, int64_t steps, const NoiseLevel& end) {
    Grid grid;
    for (int64_t i = 0; i < steps; ++i) {
        grid.push_back(schedule.at(double(schedule.steps()) * (1 - double(i) / double(steps))));
    }
    grid.push_back(end);
    return grid;
}

TEST(Path, FAndGAreThoseOfTheSdeThatHasItsMarginals) {
    for (const auto& kind : schedule_names()) {
        const Schedule schedule = make_schedule({.kind = kind});
        for (const double t : {2.3, 100.5, 500.5, 900.5}) {
            const double h = 1e-3;
            const NoiseLevel low = schedule.at(t - h), high = schedule.at(t + h), level = schedule.at(t);
            const double f = (std::log(high.alpha) - std::log(low.alpha)) / (2 * h);
            const double growth = (std::log(high.ratio()) - std::log(low.ratio())) / (2 * h);
            const auto [own_f, own_g2] = schedule.sde(t);
            // central differences lose about h^2 and rounding / h
            EXPECT_NEAR(own_f, f, 1e-6 + 1e-5 * std::abs(f)) << kind << " at " << t;
            EXPECT_NEAR(own_g2, 2 * level.sigma * level.sigma * growth, 1e-5 * own_g2) << kind << " at " << t;
        }
    }
}

TEST(Path, EndsAreThoseOfThePapers) {
    const auto last = [](const std::string& kind) { return make_schedule({.kind = kind}).at(1000); };
    EXPECT_NEAR(last("vp").alpha, std::exp(-0.25 * 19.9 - 0.05), 1e-12);
    EXPECT_NEAR(last("sub-vp").sigma, 1 - std::exp(-0.5 * 19.9 - 0.1), 1e-12);
    EXPECT_NEAR(last("ve").sigma, 50, 1e-9);
    EXPECT_NEAR(last("edm").sigma, 80, 1e-9);
    EXPECT_EQ(last("flow").alpha, 0);
    EXPECT_EQ(last("cosine-vp").alpha, 0);
    EXPECT_NEAR(make_schedule({.kind = "ve", .sigma_min = 0.5, .sigma_max = 2}).at(500).sigma, 1, 1e-12);
    expect_contains(error_of([] { make_schedule({.kind = "flow", .zero_terminal_snr = true}); }), "continuous");
}

TEST(Path, TimeAndLogSnrAreEachOthersInverse) {
    for (const auto& kind : kPaths) {
        const Schedule schedule = make_schedule({.kind = kind});
        for (const double t : {1.0, 1.5, 77.7, 640.25, 999.5}) {
            EXPECT_NEAR(schedule.time_at(schedule.at(t).log_snr()), t, 1e-9 * t) << kind;
        }
    }
}

// VP with beta from 0.1 to 20, data of variance 0.25, from N(0, 1), uniform in t: the variances at the end, by a
// recursion of its own for each (a page of Python; to all digits given).
TEST(Process, VariancesOnGaussianDataAreThoseOfTheRecursions) {
    const Schedule vp = make_schedule({.kind = "vp"});
    const NoiseLevel next_to_data{1, 1e-7, 1e-9};  // with noise in the last step too, as in the recursion
    struct Row {
        std::string solver;
        double eta, at_100, at_1000;
        bool to_data;
    };
    const std::vector<Row> rows = {{"euler-maruyama", 1, 0.253747, 0.250353, false},
                                   {"euler-maruyama", 0, 0.247754, 0.249774, false},
                                   {"ddim", 0, 0.235605, 0.248487, true},
                                   {"ddpm", 0, 0.219212, 0.246110, true}};
    for (const auto& row : rows) {
        const auto variance = [&](int64_t steps) {
            const Grid grid = uniform_to(vp, steps, row.to_data ? NoiseLevel{} : next_to_data);
            return variance_along(row.solver, row.eta, vp, 0.25, grid);
        };
        EXPECT_NEAR(variance(100), row.at_100, 6e-7) << row.solver;
        EXPECT_NEAR(variance(1000), row.at_1000, 6e-7) << row.solver;
    }
    // Why a pixel that is almost constant stays grey: 40 times the variance of the data.
    EXPECT_NEAR(variance_along("euler-maruyama", 1, vp, 1e-4, uniform_to(vp, 100, next_to_data)), 0.003958, 6e-7);
}

// Heun's method on dx/dt itself, in the process's time, which no solver of ours takes: what it needs of the process.
TEST(Process, HeunInTheProcesssTimeHasTheVarianceOfTheRecursion) {
    const Schedule vp = make_schedule({.kind = "vp"});
    const auto slope = [&](double x, double t) {
        const Sde sde = vp.sde(t);
        const NoiseLevel level = t < 1 ? NoiseLevel{} : vp.at(t);
        return sde.f * x + sde.g2 / (2 * (level.alpha * level.alpha * 0.25 + level.sigma * level.sigma)) * x;
    };
    const auto variance = [&](int64_t steps) {
        double x = 1;
        const double h = -1000.0 / double(steps);
        for (int64_t left = steps; left > 0; --left) {
            const double t = 1000.0 * double(left) / double(steps), first = slope(x, t);
            x += h / 2 * (first + slope(x + h * first, std::max(1000.0 * double(left - 1) / double(steps), 1e-9)));
        }
        return x * x;
    };
    EXPECT_NEAR(variance(100), 0.250146, 6e-7);
    EXPECT_NEAR(variance(1000), 0.250010, 6e-7);
}

TEST(Process, StochasticSolversHaveTheVarianceOfTheDataInTheLimitOnEveryPath) {
    for (const auto& kind : kPaths) {
        const Schedule schedule = make_schedule({.kind = kind, .steps = 100'000});
        for (const std::string name : {"euler-maruyama", "reverse-diffusion", "ddpm"}) {
            Grid grid = make_grid(schedule, "karras", 4000);
            double variance = std::pow(scale_of(grid.front()), 2);
            const auto solver = make_solver(name, on_schedule(schedule, 1));
            for (size_t i = 0; i + 1 < grid.size(); ++i) {
                variance = variance_after(*solver, centred_gaussian(0.25), variance, grid[i], grid[i + 1]);
            }
            // what is left of methods of order 1 after 4,000 steps, and of a start that is not quite the marginal
            EXPECT_NEAR(variance, 0.25, 0.005) << name << " on " << kind;
        }
    }
}

TEST(Langevin, LevelsFollowTheRuleOfNcsn) {
    // By a bisection of its own of the rule (a page of Python); the paper has 232 levels for 50 to 0.01 at 3,072.
    EXPECT_NEAR(ncsn_factor(784), 1.08197, 5e-6);
    EXPECT_EQ(ncsn_levels(784, 50, 0.01), 109);
    EXPECT_NEAR(ncsn_factor(3072), 1.0398, 5e-5);
    EXPECT_EQ(ncsn_levels(3072, 50, 0.01), 219);
    EXPECT_EQ(ncsn_levels(784, 1, 1), 1);
    for (const int64_t few : {1, 2, 4, 5, 10, 100}) EXPECT_EQ(ncsn_factor(few), 1.1) << few;
}

TEST(Langevin, HasTheBiasOfTheUnadjustedAlgorithm) {
    const NoiseLevel level = level_of_ratio(0.5), same = level_of_ratio(0.5);
    const double data = 0.3, v = data + 0.25, h = 0.1 * 0.25;  // step_size r^2
    double variance = 1;                                       // in y = x / alpha
    for (int i = 0; i < 400; ++i) {
        const auto solver = make_langevin(1, 0.1);
        const double alpha2 = level.alpha * level.alpha;
        variance = variance_after(*solver, centred_gaussian(data), variance * alpha2, level, same) / alpha2;
    }
    EXPECT_NEAR(variance, v / (1 - h / (2 * v)), 1e-9);
}

TEST(EdmSde, VarianceFollowsAlgorithm2) {
    const double s2 = 0.25, from = 2, to = 1.5, churn = 4, steps = 20;
    const double gamma = churn / steps, raised = from * (1 + gamma);
    const auto slope = [&](double t) { return t / (s2 + t * t); };
    const double euler = 1 + (to - raised) * slope(raised);
    const double heun = 1 + (to - raised) / 2 * (slope(raised) + slope(to) * euler);
    const double noise = 1.003 * std::sqrt(raised * raised - from * from);
    const auto solver = make_edm_sde({.amount = churn}, int64_t(steps));
    const NoiseLevel high{1, from}, low{1, to};
    EXPECT_NEAR(variance_after(*solver, centred_gaussian(s2), 3, high, low), heun * heun * (3 + noise * noise), 1e-12);
    const auto none = make_edm_sde({.amount = 0}, int64_t(steps));
    const auto heuns = make_solver("heun");
    EXPECT_NEAR(variance_after(*none, centred_gaussian(s2), 3, NoiseLevel{1, 0.9}, NoiseLevel{1, 0.5}),
                variance_after(*heuns, centred_gaussian(s2), 3, NoiseLevel{1, 0.9}, NoiseLevel{1, 0.5}), 1e-12);
}

TEST(Flow, EulerInItsTimeIsDdimAndFollowsTheExactSolution) {
    const Schedule flow = make_schedule({.kind = "flow"});
    const auto x = normal({8, 2}, {5, Purpose::kSamplingNoise, 1}).to(torch::kFloat64);
    const Denoiser data = centred_gaussian(0.25);
    const Grid grid = make_grid(flow, "flow", 20);
    auto state = x;
    for (size_t i = 0; i + 1 < grid.size(); ++i) {  // dx/du = eps - x0
        const auto [x0, eps] = data(state, grid[i]);
        state = state + (grid[i + 1].sigma - grid[i].sigma) * (eps - x0);
    }
    const auto ddim = integrate(*make_solver("ddim", {.eta = 0}), data, x, grid, no_noise, ignore_step);
    EXPECT_TRUE(torch::allclose(ddim, state, 0, 1e-12));
    const auto fine = integrate(*make_solver("rk4"), data, x, make_grid(flow, "flow", 900), no_noise, ignore_step);
    const NoiseLevel& start = grid.front();
    const auto exact = x * (0.5 / std::hypot(0.5 * start.alpha, start.sigma));
    EXPECT_TRUE(torch::allclose(fine, exact, 0, 1e-4));  // the last step, from u = 0.001 to data, is Euler's
}

TEST(Spacing, EdmAndFlowHaveTheLevelsOfTheirPapers) {
    const Schedule edm = make_schedule({.kind = "edm", .steps = 100'000});
    const Grid grid = make_grid(edm, "edm", 18);
    for (int64_t i = 0; i < 18; ++i) {  // Karras et al. 2022, eq. 5
        const double expected =
            std::pow(std::pow(80, 1 / 7.0) + double(i) / 17 * (std::pow(0.002, 1 / 7.0) - std::pow(80, 1 / 7.0)), 7);
        EXPECT_NEAR(grid[size_t(i)].sigma, expected, 2e-3 * expected)
            << i;  // edm's own t = 1 lies a little above 0.002
    }
    const Schedule flow = make_schedule({.kind = "flow"});
    const Grid shifted = make_grid(flow, "flow", 10, std::numeric_limits<double>::infinity(), 3);
    for (int64_t i = 0; i < 10; ++i) {  // Esser et al. 2024, eq. 23
        const double u = 1 - double(i) / 10;
        EXPECT_NEAR(shifted[size_t(i)].sigma, 3 * u / (1 + 2 * u), 1e-9) << i;
    }
    expect_contains(error_of([&] { make_grid(make_schedule({.kind = "ve"}), "flow", 1000); }),
                    "too many for the spacing");
}

TEST(Prediction, OfEdmWithUnitDataIsMinusVAndAllGiveBackWhatTheyWereMadeOf) {
    const auto x0 = normal({4, 3}, {1, Purpose::kSamplingNoise, 1}).to(torch::kFloat64);
    const auto eps = normal({4, 3}, {1, Purpose::kSamplingNoise, 2}).to(torch::kFloat64);
    for (const double ratio : {0.01, 0.7, 30.0}) {
        const NoiseLevel level = level_of_ratio(ratio);
        const auto alpha = torch::tensor(level.alpha, torch::kFloat64),
                   sigma = torch::tensor(level.sigma, torch::kFloat64);
        const auto x = level.alpha * x0 + level.sigma * eps;
        for (const auto& name : prediction_names()) {
            ParameterizationOptions options{.prediction = name};
            if (name == "edm") options.sigma_data = 0.5;
            const Parameterization meaning = make_parameterization(options);
            const auto back = meaning.predict(meaning.target(x0, eps, alpha, sigma), x, level);
            EXPECT_TRUE(torch::allclose(back.x0, x0, 0, 1e-11 * std::max(1.0, ratio))) << name << " at " << ratio;
            EXPECT_TRUE(torch::allclose(back.eps, eps, 0, 1e-11 / std::min(1.0, ratio))) << name << " at " << ratio;
        }
        const auto v = make_parameterization({.prediction = "v"}), edm = make_parameterization({.prediction = "edm"});
        EXPECT_TRUE(torch::allclose(edm.target(x0, eps, alpha, sigma), -v.target(x0, eps, alpha, sigma), 0, 1e-14));
    }
}

TEST(TrainingTimes, OfNormalDensitiesHaveTheirMeanAndSpread) {
    const Schedule edm = make_schedule({.kind = "edm"});
    for (const auto& [kind, mean, std] : {std::tuple{"log-normal", -1.2, 1.2}, std::tuple{"logit-normal", 0.0, 1.0}}) {
        std::vector<double> logs;
        for (int64_t step = 0; step < 40; ++step) {
            for (const auto& level : training_levels(7, step, 100, edm, {.kind = kind})) {
                logs.push_back(std::log(level.ratio()));
                EXPECT_NEAR(scale_of(level), 1, 1e-12);
            }
        }
        const auto all = torch::tensor(logs, torch::kFloat64);
        // Stratified over 100, the mean's own spread is far below that of independent draws, 1.2 / sqrt(4000) = 0.02.
        EXPECT_NEAR(all.mean().item<double>(), mean, 0.02) << kind;
        EXPECT_NEAR(all.std().item<double>(), std, 0.03) << kind;
    }
}

TEST(Denoiser, OfANetworkSeesEveryPathAlike) {
    const Schedule ve = make_schedule({.kind = "ve"}), flow = make_schedule({.kind = "flow"});
    const Network network = [](const NetworkInput& input) { return torch::tanh(input.x); };
    const auto meaning = make_parameterization({.prediction = "v"});
    const auto x = normal({3, 4}, {5, Purpose::kSamplingNoise, 1}).to(torch::kFloat64);  // at unit scale
    const NoiseLevel level = level_of_ratio(1.7), on_ve{1, 1.7}, on_flow{1 / 2.7, 1.7 / 2.7};
    const auto plain = network_denoiser(network, meaning, ve)(x, level);
    for (const auto& [schedule, other] : {std::pair{ve, on_ve}, std::pair{flow, on_flow}}) {
        const auto seen = network_denoiser(network, meaning, schedule)(x * scale_of(other), other);
        EXPECT_TRUE(torch::allclose(seen.x0, plain.x0, 0, 1e-6));  // the network runs in float32
        EXPECT_TRUE(torch::allclose(seen.eps, plain.eps, 0, 1e-6));
    }
}

}  // namespace
}  // namespace diffuse
