#include "diffuse/solver.hpp"

#include "diffuse/integrate.hpp"
#include "diffuse/random.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

const Schedule kSchedule = make_schedule({.kind = "linear", .steps = 1000});
const GaussianData kData;

torch::Tensor noise(int64_t count, uint64_t index) {
    return normal({count, 1, 1, 1}, {7, Purpose::kSamplingNoise, index}).to(torch::kFloat64);
}

torch::Tensor walk(const std::string& solver, const Grid& grid, const torch::Tensor& x) {
    const auto method = look_up("solver", solvers(), solver).make(0);
    return integrate(*method, kData.denoiser(), x, grid, no_noise, ignore_step);
}

/// Levels at equal distances in r = sigma / alpha, in which the methods' orders are defined, between two levels.
Grid even_in_ratio(double first, double last, int64_t steps) {
    Grid grid;
    for (int64_t i = 0; i <= steps; ++i) {
        const double r = first + (last - first) * double(i) / double(steps), alpha = 1 / std::sqrt(1 + r * r);
        grid.push_back({double(2 + i), alpha, r * alpha});
    }
    return grid;
}

/// The slope of log(error) over log(step size), by least squares over the step counts. A multistep method is first
/// given `history` exact points, since the order that its first steps lack would be all that is seen.
double measured_order(const std::string& name, std::vector<int64_t> counts, size_t history = 0) {
    const auto x = noise(100, 0);
    double sum_h = 0, sum_e = 0, sum_hh = 0, sum_he = 0;
    for (const int64_t steps : counts) {
        const Grid grid = even_in_ratio(3, 0.1, steps);
        const auto exact = [&](size_t i) { return kData.flow(x, grid.front(), grid[i]); };
        const auto solver = look_up("solver", solvers(), name).make(0);
        for (size_t i = 0; i < history; ++i) solver->step(kData.denoiser(), exact(i), grid[i], grid[i + 1], {});
        const Grid rest(grid.begin() + ptrdiff_t(history), grid.end());
        const auto end = integrate(*solver, kData.denoiser(), exact(history), rest, no_noise, ignore_step);
        const double h = std::log(1.0 / double(steps)),
                     e = std::log((end - exact(grid.size() - 1)).abs().max().item<double>());
        sum_h += h, sum_e += e, sum_hh += h * h, sum_he += h * e;
    }
    const double n = double(counts.size());
    return (n * sum_he - sum_h * sum_e) / (n * sum_hh - sum_h * sum_h);
}

// Steps so short that the leading term of the error dominates, which takes more of them for a multistep method on these
// levels, and so long that it is above rounding's.
const std::vector<int64_t> kCounts = {80, 113, 160, 226, 320}, kManyCounts = {320, 453, 640, 905, 1280};
constexpr double kTolerance = 0.15;  // what the next term of the error leaves of the slope at these counts

TEST(Order, DdimIsOne) { EXPECT_NEAR(measured_order("ddim", kCounts), 1, kTolerance); }
TEST(Order, EulerIsOne) { EXPECT_NEAR(measured_order("euler", kCounts), 1, kTolerance); }
TEST(Order, HeunIsTwo) { EXPECT_NEAR(measured_order("heun", kCounts), 2, kTolerance); }
TEST(Order, Rk4IsFour) { EXPECT_NEAR(measured_order("rk4", kCounts), 4, kTolerance); }
TEST(Order, Dpm2IsTwo) { EXPECT_NEAR(measured_order("dpm-2", kCounts), 2, kTolerance); }
TEST(Order, Dpm3IsThree) { EXPECT_NEAR(measured_order("dpm-3", kManyCounts), 3, kTolerance); }
TEST(Order, Dpmpp2mIsTwo) { EXPECT_NEAR(measured_order("dpmpp-2m", kManyCounts, 1), 2, kTolerance); }
TEST(Order, Dpmpp3mIsThree) { EXPECT_NEAR(measured_order("dpmpp-3m", kManyCounts, 2), 3, kTolerance); }
TEST(Order, IpndmIsFour) { EXPECT_NEAR(measured_order("ipndm", kManyCounts, 3), 4, kTolerance); }
// The predictor is dpmpp-2m's, of order 2; the corrector makes each point but the last one better than that.
TEST(Order, UniPcIsAtLeastTwo) { EXPECT_GT(measured_order("unipc", kManyCounts, 1), 2 - kTolerance); }

TEST(Solver, DdimWithoutNoiseIsEulerInYAndR) {
    const Grid grid = make_grid(kSchedule, "uniform", 20);
    const auto start = noise(16, 1);
    auto y = start / grid.front().alpha;
    for (size_t i = 0; i + 1 < grid.size(); ++i) {
        y = y + (grid[i + 1].ratio() - grid[i].ratio()) * kData.denoiser()(grid[i].alpha * y, grid[i]).eps;
    }
    // y reaches 150 at the start; what is left of double's precision bounds the difference.
    EXPECT_TRUE(torch::allclose(walk("ddim", grid, start), y, 0, 1e-12));
}

TEST(Solver, DdpmIsDdimWithEtaOne) {
    const Grid grid = make_grid(kSchedule, "quadratic", 13);
    const auto fresh = [](int64_t step) { return noise(16, 100 + uint64_t(step)); };
    const auto ddpm = make_ddpm(), ddim = make_ddim(1);
    const auto a = integrate(*ddpm, kData.denoiser(), noise(16, 2), grid, fresh, ignore_step);
    const auto b = integrate(*ddim, kData.denoiser(), noise(16, 2), grid, fresh, ignore_step);
    EXPECT_TRUE(torch::allclose(a, b, 0, 1e-10));
}

TEST(Solver, DdpmSamplesHaveTheMeanAndVarianceOfTheData) {
    const int64_t count = 20'000;
    const auto fresh = [&](int64_t step) { return noise(count, 1000 + uint64_t(step)); };
    const auto ddpm = make_ddpm();
    const auto x =
        integrate(*ddpm, kData.denoiser(), noise(count, 3), make_grid(kSchedule, "uniform", 1000), fresh, ignore_step);
    const double standard_error = kData.deviation / std::sqrt(double(count));
    EXPECT_NEAR(x.mean().item<double>(), kData.mean, 5 * standard_error);
    // The posterior's variance is a lower bound (Ho et al. 2020, section 3.2): at 1000 steps it costs 1% of deviation.
    EXPECT_NEAR(x.std().item<double>(), kData.deviation, 5 * standard_error / std::sqrt(2.0) + 0.01 * kData.deviation);
}

TEST(Solver, DeterministicSolversReachTheData) {
    for (const std::string solver : {"ddim", "heun"}) {
        const Grid grid = make_grid(kSchedule, "uniform", 1000);
        const auto x = noise(1000, 4), exact = kData.flow(x, grid.front(), grid.back());
        EXPECT_LT((walk(solver, grid, x) - exact).abs().max().item<double>(), 0.02) << solver;
    }
}

TEST(Solver, EncodingAndDecodingReturnsToTheImage) {
    // The error of a round trip falls with the step as the method's does; bounds are three times what was measured for
    // ddim, ten times for heun.
    const Grid decode = make_grid(kSchedule, "uniform", 100), encode = reversed(decode);
    const auto image = kData.mean + kData.deviation * noise(100, 5);
    for (const auto& [solver, bound] : std::vector<std::pair<std::string, double>>{{"ddim", 0.25},
                                                                                   {"heun", 0.01},
                                                                                   {"rk4", 0.01},
                                                                                   {"dpm-2", 0.05},
                                                                                   {"dpm-3", 0.05},
                                                                                   {"dpmpp-2m", 0.05},
                                                                                   {"dpmpp-3m", 0.05},
                                                                                   {"unipc", 0.05}}) {
        const auto latent = walk(solver, encode, image);
        EXPECT_LT((walk(solver, decode, latent) - image).abs().max().item<double>(), bound) << solver;
        EXPECT_NEAR(latent.std().item<double>(), 1, 0.25) << solver;
    }
}

TEST(Solver, ReversibleReturnsExactlyAtAnyNumberOfSteps) {
    for (const int64_t steps : {1, 2, 10, 50, 200}) {
        const Grid decode = make_grid(kSchedule, "uniform", steps), encode = reversed(decode);
        const auto image = kData.mean + kData.deviation * noise(100, 5);
        const auto up = make_reversible(), down = make_reversible();
        const auto latent = integrate(*up, kData.denoiser(), image, encode, no_noise, ignore_step);
        *down->companion() = *up->companion();
        const auto back = integrate(*down, kData.denoiser(), latent, decode, no_noise, ignore_step);
        // Rounding errors of double grow by 1 / 0.99 a step.
        EXPECT_LT((back - image).abs().max().item<double>(), 1e-10) << steps;
    }
}

TEST(Solver, StepsForANumberOfEvaluationsTakeNoMore) {
    for (const auto& [name, kind] : solvers()) {
        for (const int64_t nfe : {2, 3, 4, 5, 10, 50}) {
            const int64_t steps = steps_for(kind, nfe);
            int64_t asked = 0;
            const Denoiser counting = [&](const torch::Tensor& x, const NoiseLevel& level) {
                ++asked;
                return kData.denoiser()(x, level);
            };
            const auto fresh = [](int64_t) { return noise(4, 9); };
            integrate(*kind.make(0), counting, noise(4, 8), make_grid(kSchedule, "uniform", steps), fresh, ignore_step);
            EXPECT_LE(asked, nfe) << name;
            EXPECT_GT(asked + kind.evaluations, nfe) << name << ": room for another step";
        }
    }
    expect_contains(error_of([] { steps_for(look_up("solver", solvers(), "reversible"), 1); }), "has room for none");
}

TEST(Solver, HeunIsAccurateWhereTheRatioIsHuge) {
    // The cosine schedule ends at r = 20,000: a mean of slopes in r over the first of 50 steps, 20,000 long, would be
    // off by far more than 1. The bound is three times what was measured.
    const Schedule cosine = make_schedule({.kind = "cosine", .steps = 1000});
    const Grid grid = make_grid(cosine, "uniform", 50);
    const auto x = noise(100, 6), exact = kData.flow(x, grid.front(), grid.back());
    EXPECT_LT((walk("heun", grid, x) - exact).abs().max().item<double>(), 0.01);
}

TEST(Solver, TheLastStepAsksNothingOfSigmaZero) {
    const Denoiser strict = [](const torch::Tensor& x, const NoiseLevel& level) {
        EXPECT_GT(level.sigma, 0);
        return kData.denoiser()(x, level);
    };
    const auto fresh = [](int64_t) { return noise(4, 9); };
    for (const auto& [name, kind] : solvers()) {
        if (name == "reversible") continue;  // undoes the very step, and so asks at both ends
        const auto solver = kind.make(0);
        integrate(*solver, strict, noise(4, 8), make_grid(kSchedule, "uniform", 5), fresh, ignore_step);
    }
}

}  // namespace
}  // namespace diffuse
