#include "diffuse/diffusion/schedule.hpp"

#include <fmt/format.h>

#include "diffuse/base/random.hpp"
#include "diffuse/diffusion/grid.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

Schedule named(const std::string& kind, int64_t steps = 1000) { return make_schedule({.kind = kind, .steps = steps}); }
double alpha_bar(const Schedule& schedule, double t) { return std::pow(schedule.at(t).alpha, 2); }

TEST(Schedule, LinearHasThePublishedValues) {
    const Schedule linear = named("linear");
    EXPECT_NEAR(alpha_bar(linear, 1), 1 - 1e-4, 1e-15);
    EXPECT_NEAR(alpha_bar(linear, 2), (1 - 1e-4) * (1 - 1e-4 - (0.02 - 1e-4) / 999), 1e-15);
    // Ho et al. 2020, section 4, need q(x_T) close to N(0, I); alphas_cumprod[-1] of every implementation is 4.0358e-5.
    EXPECT_NEAR(alpha_bar(linear, 1000), 4.0358e-5, 5e-10);
}

TEST(Schedule, CosineHasThePublishedValues) {
    const Schedule cosine = named("cosine");
    const auto f = [](double u) { return std::pow(std::cos((u + 0.008) / 1.008 * M_PI / 2), 2); };
    for (const int t : {1, 250, 500, 900, 999}) EXPECT_NEAR(alpha_bar(cosine, t), f(t / 1000.0) / f(0), 1e-12) << t;
    // beta_T would be 1; clipped at 0.999 it leaves a little signal.
    EXPECT_NEAR(alpha_bar(cosine, 1000) / alpha_bar(cosine, 999), 1 - 0.999, 1e-12);
}

TEST(Schedule, StartsAtDataAndLosesSignalAtEveryStep) {
    for (const auto& kind : kStepSchedules) {
        for (const int64_t steps : {1, 2, 10, 50, 1000, 4000}) {
            const Schedule schedule = named(kind, steps);
            EXPECT_EQ(schedule.at(0).alpha, 1);
            EXPECT_EQ(schedule.at(0).sigma, 0);
            for (int64_t t = 1; t <= steps; ++t) {
                const NoiseLevel level = schedule.at(double(t)), before = schedule.at(double(t - 1));
                ASSERT_LT(level.alpha, before.alpha) << kind << " " << steps << " " << t;
                ASSERT_GT(level.alpha, 0);
                ASSERT_NEAR(level.alpha * level.alpha + level.sigma * level.sigma, 1, 1e-15);
            }
        }
    }
}

TEST(Schedule, LinearAndScaledLinearTakeTheSameWayInAnyNumberOfSteps) {
    for (const std::string kind : {"linear", "scaled-linear"}) {
        const Schedule thousand = named(kind);
        for (const int64_t steps : {1, 3, 10, 50, 200, 500, 1000, 2000, 4000}) {
            const Schedule schedule = named(kind, steps);
            for (int64_t t = 1; t <= steps; ++t) {
                if (1000 * t % steps != 0) continue;
                const double expected = thousand.at(double(1000 * t / steps)).log_snr();
                ASSERT_NEAR(schedule.at(double(t)).log_snr(), expected, 1e-9) << kind << " " << steps << " " << t;
            }
        }
    }
}

TEST(Schedule, WithZeroTerminalSnrEndsInPureNoiseAndBeginsAsBefore) {
    for (const auto& kind : kStepSchedules) {
        const Schedule before = named(kind), after = make_schedule({.kind = kind, .zero_terminal_snr = true});
        EXPECT_NEAR(after.at(1).alpha, before.at(1).alpha, 1e-12) << kind;
        EXPECT_NEAR(after.at(1000).alpha, 5e-5, 1e-10) << kind;  // the product of 1000 factors near 1
        for (int t = 2; t <= 1000; ++t) ASSERT_LT(after.at(t).alpha, after.at(t - 1).alpha) << kind << " " << t;
    }
    EXPECT_NEAR(make_schedule({.kind = "linear", .steps = 1, .zero_terminal_snr = true}).at(1).alpha, 5e-5, 1e-10);
}

TEST(Schedule, InterpolatesInLogSnr) {
    const Schedule linear = named("linear");
    const NoiseLevel between = linear.at(10.25);
    EXPECT_NEAR(between.log_snr(), 0.75 * linear.at(10).log_snr() + 0.25 * linear.at(11).log_snr(), 1e-12);
    EXPECT_NEAR(between.alpha * between.alpha + between.sigma * between.sigma, 1, 1e-15);
}

TEST(Schedule, FindsTheTimeOfALevel) {
    for (const auto& kind : schedule_names()) {
        const Schedule schedule = named(kind, 100);
        for (const double t : {1.0, 2.0, 17.0, 17.3, 99.9, 100.0}) {
            EXPECT_NEAR(schedule.time_at(schedule.at(t).log_snr()), t, 1e-9) << kind;
        }
        EXPECT_EQ(schedule.time_at(1e3), 1) << kind;
        EXPECT_NEAR(schedule.time_at(-1e3), 100, 1e-6) << kind;  // where alpha is 0 at the end, next to it
    }
    const NoiseLevel level = level_of_ratio(0.7);
    EXPECT_NEAR(level.ratio(), 0.7, 1e-15);
    EXPECT_NEAR(level.alpha * level.alpha + level.sigma * level.sigma, 1, 1e-15);
}

TEST(Schedule, ScaledLinearAndTheShapesOfTheOthersHaveThePublishedValues) {
    // Stable Diffusion's last alpha-bar (Lin et al. 2024, arXiv:2305.08891, table 1): sqrt(alpha-bar) = 0.068265.
    EXPECT_NEAR(named("scaled-linear").at(1000).alpha, 0.068265, 5e-7);
    const auto sigmoid = [](double u) { return 1 / (1 + std::exp(-u)); };
    EXPECT_NEAR(alpha_bar(named("sigmoid"), 500), 0.5, 1e-12);
    EXPECT_NEAR(alpha_bar(named("sigmoid"), 250), (sigmoid(1.5) - sigmoid(-3)) / (sigmoid(3) - sigmoid(-3)), 1e-12);
    EXPECT_NEAR(alpha_bar(named("polynomial"), 500), 0.5625, 1e-12);
}

TEST(Schedule, TheForwardProcessHasTheMarginalsItSays) {
    // q(x_t | x_{t-1}) step by step (Ho et al. 2020, eq. 2, with the betas of section 4): the mean shrinks by
    // sqrt(1 - beta), the variance obeys v' = (1 - beta) v + beta.
    const Schedule schedule = named("linear");
    double mean = 1, variance = 0;
    for (int64_t t = 1; t <= 1000; ++t) {
        const double beta = 1e-4 + (0.02 - 1e-4) * double(t - 1) / 999;
        mean *= std::sqrt(1 - beta);
        variance = (1 - beta) * variance + beta;
        ASSERT_NEAR(mean, schedule.at(double(t)).alpha, 1e-12);
        ASSERT_NEAR(std::sqrt(variance), schedule.at(double(t)).sigma, 1e-12);
    }
}

TEST(Grid, BeginsWhereTheErrorOfEpsIsNotMultipliedByThousands) {
    for (const auto& kind : kStepSchedules) {
        for (const int64_t steps : {1, 2, 10, 50, 1000, 4000}) {
            const Schedule schedule = named(kind, steps);
            const int64_t start = grid_start(schedule);
            const auto ratio = [&](int64_t t) { return schedule.at(double(t)).ratio(); };
            EXPECT_LE(ratio(start), 200) << kind << " " << steps;
            if (start == steps) continue;
            EXPECT_GT(ratio(steps), 200) << kind << " " << steps;
            EXPECT_LE(ratio(start), 80) << kind << " " << steps;
            EXPECT_GT(ratio(start + 1), 80) << kind << " " << steps;
        }
    }
    EXPECT_EQ(grid_start(named("linear")), 1000);
    EXPECT_EQ(grid_start(named("scaled-linear")), 1000);
    // 1008 (1 - 2 atan(80) / pi) = 8.02 levels before the end.
    EXPECT_EQ(grid_start(named("cosine")), 991);
    EXPECT_EQ(grid_start(make_schedule({.kind = "cosine", .zero_terminal_snr = true})), 1000);
}

TEST(Grid, BeginsAtTheRatioThatIsAskedFor) {
    const double all = std::numeric_limits<double>::infinity();
    for (const auto& kind : schedule_names()) {
        const Schedule schedule = named(kind);
        EXPECT_EQ(grid_start(schedule, all), 1000) << kind;
        const int64_t start = grid_start(schedule, 10);
        EXPECT_LE(schedule.at(double(start)).ratio(), 10) << kind;
        EXPECT_GT(schedule.at(double(start + 1)).ratio(), 10) << kind;
    }
    const Schedule pure = make_schedule({.kind = "linear", .zero_terminal_snr = true});
    EXPECT_LT(grid_start(pure, 80), 1000);
    const double first = named("linear").at(1).ratio();
    EXPECT_EQ(grid_start(named("linear"), first), 1);
    expect_contains(error_of([&] { grid_start(named("linear"), 0.9 * first); }), "the first has 0.01");
}

TEST(Grid, MeasuresNoDistancesFromPureNoise) {
    constexpr double kAtT = std::numeric_limits<double>::infinity();
    const Schedule pure = make_schedule({.kind = "linear", .zero_terminal_snr = true});
    for (const auto& [schedule, max_ratio] :
         {std::pair{pure, std::optional<double>()}, std::pair{named("cosine"), std::optional(kAtT)},
          std::pair{named("flow"), std::optional(kAtT)}}) {
        for (const std::string spacing : {"log-snr", "karras"}) {
            const Grid grid = make_grid(schedule, spacing, 20, max_ratio);
            EXPECT_EQ(grid.front().t, 1000) << spacing;
            EXPECT_GT(grid[0].ratio(), 10'000) << spacing;
            EXPECT_NEAR(std::log(grid[1].ratio() / 80), 0, 0.15) << spacing;  // the nearest whole t
        }
    }
}

TEST(Grid, GoesFromItsStartToZeroWithoutRepetition) {
    for (const auto& kind : kStepSchedules) {
        for (const int64_t levels : {1, 2, 10, 1000, 4000}) {
            const Schedule schedule = named(kind, levels);
            const int64_t start = grid_start(schedule);
            for (const auto& spacing : spacing_names()) {
                if (spacing == "edm" || spacing == "flow") continue;  // have ends of their own; see Spacing
                for (const int64_t steps : {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{50}, start - 1, start}) {
                    if (steps < 1 || steps > start) continue;
                    const Grid grid = make_grid(schedule, spacing, steps);
                    ASSERT_EQ(std::ssize(grid), steps + 1);
                    EXPECT_EQ(grid.front().t, double(start));
                    EXPECT_EQ(grid.back().t, 0);
                    for (size_t i = 1; i < grid.size(); ++i) {
                        ASSERT_LT(grid[i].t, grid[i - 1].t) << kind << " " << spacing << " " << steps;
                        ASSERT_GT(grid[i].alpha, grid[i - 1].alpha) << kind << " " << spacing << " " << steps;
                    }
                }
            }
        }
    }
}

TEST(Grid, OfTheLikelihoodGoesUpFromTheFirstLevelInAnyNumberOfSteps) {
    for (const auto& kind : kStepSchedules) {
        for (const int64_t levels : {2, 10, 1000}) {
            const Schedule schedule = named(kind, levels);
            for (const int64_t steps : {1, 50, 3000}) {
                const Grid grid = likelihood_grid(schedule, steps);
                ASSERT_EQ(std::ssize(grid), steps + 1);
                EXPECT_EQ(grid.front().t, 1);
                EXPECT_EQ(grid.back().t, double(grid_start(schedule)));
            }
        }
        EXPECT_EQ(likelihood_grid(named(kind, 1), 50).size(), 1u);
    }
}

TEST(Grid, UniformHasTheExpectedTimes) {
    const Grid grid = make_grid(named("linear"), "uniform", 4);
    const std::vector<double> expected = {1000, 750, 500, 250, 0};
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(grid[i].t, expected[i]);
}

TEST(Grid, LogSnrAndKarrasAreEvenInWhatTheySay) {
    for (const auto& kind : schedule_names()) {
        const Schedule schedule = named(kind);
        const auto expect_even = [&](const std::string& spacing, double (*value)(const NoiseLevel&)) {
            const Grid grid = make_grid(schedule, spacing, 9);
            EXPECT_EQ(grid[8].t, 1);
            const double distance = (value(grid[8]) - value(grid[0])) / 8;
            for (size_t i = 1; i <= 8; ++i) {
                EXPECT_NEAR(value(grid[i]) - value(grid[i - 1]), distance, 1e-9) << spacing << " on " << kind;
            }
        };
        expect_even("log-snr", [](const NoiseLevel& level) { return level.log_snr(); });
        expect_even("karras", [](const NoiseLevel& level) { return std::pow(level.ratio(), 1.0 / 7); });
    }
}

TEST(Grid, KarrasHasTheLevelsOfItsPaper) {
    // Karras et al. 2022, eq. 5, between the ends of the grid. With an end at r = 20,000, 13 of the 20 would lie above
    // t = 990 of the cosine schedule.
    const Grid grid = make_grid(named("cosine"), "karras", 20);
    const double first = std::pow(grid[0].ratio(), 1.0 / 7), last = std::pow(named("cosine").at(1).ratio(), 1.0 / 7);
    for (size_t i = 0; i < 20; ++i) {
        const double sigma = std::pow(first + double(i) / 19 * (last - first), 7);
        EXPECT_NEAR(grid[i].ratio(), sigma, 1e-9 * sigma) << i;
    }
    EXPECT_EQ(std::count_if(grid.begin(), grid.end(), [](const NoiseLevel& level) { return level.t > 990; }), 1);
}

TEST(Grid, OfEdmBeginsAt80UnlessAnotherRatioIsAskedFor) {
    constexpr double kAtT = std::numeric_limits<double>::infinity();
    const auto first = [](const std::string& kind, std::optional<double> max_ratio) {
        return make_grid(named(kind), "edm", 18, max_ratio).front();
    };
    EXPECT_NEAR(first("linear", {}).ratio(), 80, 1e-9);
    EXPECT_NEAR(first("linear", 150).ratio(), 150, 2);  // the nearest whole t
    EXPECT_LE(first("linear", 150).ratio(), 150);
    for (const std::string kind : {"linear", "cosine", "flow", "cosine-vp"}) {
        EXPECT_EQ(first(kind, kAtT).t, 1000) << kind;
        EXPECT_EQ(make_grid(named(kind), "edm", 1, kAtT).front().t, 1000) << kind;
    }
}

TEST(Grid, RefusesMoreStepsThanLevelsAndUnknownSpacings) {
    const Schedule schedule = named("linear", 20);
    expect_contains(error_of([&] { make_grid(schedule, "uniform", 21); }), "expected 1 to 20");
    expect_contains(error_of([&] { make_grid(schedule, "unifrom", 5); }), "did you mean 'uniform'?");
    EXPECT_EQ(most_steps(schedule, "uniform", 50), 20);
    const int64_t most = most_steps(schedule, "flow", 20);
    EXPECT_LT(most, 20);
    EXPECT_EQ(std::ssize(make_grid(schedule, "flow", most)), most + 1);
    expect_contains(error_of([&] { make_grid(schedule, "flow", most + 1); }), fmt::format("expected 1 to {}", most));
}

}  // namespace
}  // namespace diffuse
