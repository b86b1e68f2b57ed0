#include "diffuse/solve/solver.hpp"

#include "diffuse/base/random.hpp"
#include "diffuse/solve/integrate.hpp"
#include "lab/experiments.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

const Schedule kSchedule = make_schedule({.kind = "linear", .steps = 1000});
const GaussianData kData;

torch::Tensor noise(int64_t count, uint64_t index) {
    return normal({count, 1, 1, 1}, {7, Purpose::kSamplingNoise, index}).to(torch::kFloat64);
}

torch::Tensor walk(const std::string& solver, const Grid& grid, const torch::Tensor& x) {
    const auto method = make_solver(solver);
    return integrate(*method, kData.denoiser(), x, grid, no_noise, ignore_step);
}

/// The slope of log(error) over log(step size), by least squares over the step counts, on a closed-form denoiser. A
/// multistep method is first given `history` exact points, since the order that its first steps lack would be all that
/// is seen.
template <class Data>
double measured_order(const Data& data, const torch::Tensor& x, const std::string& name,
                      const std::vector<int64_t>& counts, size_t history) {
    const Grid ends = spaced_in_ratio(3, 0.1, 1);
    const torch::Tensor exact_end = data.flow(x, ends.front(), ends.back());
    std::vector<double> h, error;
    for (const int64_t steps : counts) {
        const Grid grid = spaced_in_ratio(3, 0.1, steps);
        const auto exact = [&](size_t i) { return i == 0 ? x : data.flow(x, grid.front(), grid[i]); };
        const auto solver = make_solver(name);
        for (size_t i = 0; i < history; ++i) solver->step(data.denoiser(), exact(i), grid[i], grid[i + 1], {});
        const Grid rest(grid.begin() + ptrdiff_t(history), grid.end());
        const torch::Tensor end = integrate(*solver, data.denoiser(), exact(history), rest, no_noise, ignore_step);
        h.push_back(1.0 / double(steps)), error.push_back((end - exact_end).abs().max().item<double>());
    }
    return lab::slope(h, error);
}

// Steps so short that the leading term of the error dominates, which takes more of them for a multistep method on these
// levels, and so long that it is above rounding's.
const std::vector<int64_t> kCounts = {80, 113, 160, 226, 320}, kManyCounts = {320, 453, 640, 905, 1280},
                           kMaxCounts = {640, 905, 1280, 1810, 2560};
constexpr double kTolerance = 0.15;  // what the next term of the error leaves of the slope at these counts

struct Theory {
    std::string solver;
    double order;
    const std::vector<int64_t>& counts;
    size_t history = 0;
};
const std::vector<Theory> kTheories = {
    {"ddim", 1, kCounts},        {"euler", 1, kCounts},           {"heun", 2, kCounts},
    {"rk4", 4, kCounts},         {"dpm-2", 2, kCounts},           {"dpm-3", 3, kManyCounts},
    {"ipndm", 4, kMaxCounts, 3}, {"dpmpp-2m", 2, kManyCounts, 1}, {"dpmpp-3m", 3, kManyCounts, 2},
};

TEST(Order, IsThatOfTheoryOnGaussianData) {
    for (const auto& [solver, order, counts, history] : kTheories) {
        EXPECT_NEAR(measured_order(kData, noise(100, 0), solver, counts, history), order, kTolerance) << solver;
    }
}

TEST(Order, IsThatOfTheoryOnAMixtureInThePlane) {
    const auto x = normal({20, 2}, {7, Purpose::kSamplingNoise, 10}).to(torch::kFloat64);
    for (const auto& [solver, order, counts, history] : kTheories) {
        EXPECT_NEAR(measured_order(MixtureData{}, x, solver, counts, history), order, kTolerance) << solver;
    }
}

// The predictor is dpmpp-2m's, of order 2; the corrector makes each point but the last one better than that.
TEST(Order, UniPcIsAtLeastTwo) {
    EXPECT_GT(measured_order(kData, noise(100, 0), "unipc", kManyCounts, 1), 2 - kTolerance);
}

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

TEST(Solver, DdpmIsDdimWithEtaOneOnEverySchedule) {
    const auto fresh = [](int64_t step, int64_t) { return noise(16, 100 + uint64_t(step)); };
    for (const auto& kind : schedule_names()) {
        const Grid grid = make_grid(make_schedule({.kind = kind}), "quadratic", 13);
        const auto start = scale_of(grid.front()) * noise(16, 2);
        const auto end = [&](const std::string& solver, std::optional<double> eta) {
            return integrate(*make_solver(solver, {.eta = eta}), kData.denoiser(), start, grid, fresh, ignore_step);
        };
        const auto expected = end("ddpm", {});
        EXPECT_TRUE(torch::allclose(end("ddim", 1), expected, 0, 1e-10)) << kind;
        EXPECT_FALSE(torch::allclose(end("ddim", 0), expected, 0, 1e-3)) << kind;
    }
}

TEST(Solver, OfOnePointDdpmAndDdimOfEveryEtaHaveEachLevelsOwnVariance) {
    // All of x is noise, of which they keep and add what the level has: no error of steps, however long.
    const Denoiser point = centred_gaussian(0);
    for (const auto& kind : schedule_names()) {
        const Schedule schedule = make_schedule({.kind = kind});
        for (const std::optional<double> eta :
             {std::optional<double>(), std::optional(0.0), std::optional(0.5), std::optional(1.0)}) {
            const auto solver = make_solver(eta ? "ddim" : "ddpm", {.eta = eta});
            const Grid grid = make_grid(schedule, "uniform", 20);
            double variance = std::pow(grid.front().sigma, 2);
            for (size_t i = 0; i + 2 < grid.size(); ++i) {
                variance = variance_after(*solver, point, variance, grid[i], grid[i + 1]);
                EXPECT_NEAR(variance, std::pow(grid[i + 1].sigma, 2), 1e-9 * variance) << kind << " at " << i;
            }
        }
    }
}

/// The probability that n independent draws of the distribution `cdf` lie at least as far from it as x does, in
/// Kolmogorov and Smirnov's distance; the limit for large n.
double kolmogorov_smirnov(const torch::Tensor& x, const std::function<double(double)>& cdf) {
    const auto sorted = std::get<0>(x.flatten().sort());
    const int64_t n = sorted.numel();
    double distance = 0;
    for (int64_t i = 0; i < n; ++i) {
        const double at = cdf(sorted[i].item<double>());
        distance = std::max({distance, at - double(i) / double(n), double(i + 1) / double(n) - at});
    }
    double probability = 0;
    for (int k = 1; k <= 100; ++k)
        probability += (k % 2 ? 2 : -2) * std::exp(-2.0 * k * k * distance * distance * double(n));
    return std::min(1.0, probability);
}

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

// With this seed; a true sampler would fail one seed in a hundred.
constexpr double kSignificance = 0.01;

struct Stochastic {
    std::string name;
    std::function<std::unique_ptr<Solver>()> make;
};
const std::vector<Stochastic> kStochastic = {{"ddpm", [] { return make_solver("ddpm"); }},
                                             {"ddpm-upper", [] { return make_solver("ddpm-upper"); }},
                                             {"ddim, eta 0.5", [] { return make_solver("ddim", {.eta = 0.5}); }},
                                             {"ddim, eta 1", [] { return make_solver("ddim", {.eta = 1}); }}};

TEST(Stochastic, SamplesOfGaussianDataHaveItsMomentsAndDistribution) {
    const int64_t count = 5000;
    const auto fresh = [&](int64_t step, int64_t) { return noise(count, 1000 + uint64_t(step)); };
    const Grid grid = make_grid(kSchedule, "uniform", 1000);
    for (const auto& [name, make] : kStochastic) {
        const auto solver = make();
        const auto x = integrate(*solver, kData.denoiser(), noise(count, 3), grid, fresh, ignore_step);
        const double standard_error = kData.std / std::sqrt(double(count));
        EXPECT_NEAR(x.mean().item<double>(), kData.mean, 4 * standard_error) << name;
        // The posterior's variance is a lower bound (Ho et al. 2020, section 3.2): at 1000 steps it costs 1% of
        // deviation.
        EXPECT_NEAR(x.std().item<double>(), kData.std, 4 * standard_error / std::sqrt(2.0) + 0.01 * kData.std) << name;
        const auto cdf = [](double at) { return normal_cdf((at - kData.mean) / kData.std); };
        EXPECT_GT(kolmogorov_smirnov(x, cdf), kSignificance) << name;
    }
}

TEST(Stochastic, SamplesOfAMixtureInThePlaneHaveItsMarginals) {
    const int64_t count = 2000;
    const MixtureData data;
    const auto draw = [&](uint64_t index) {
        return normal({count, 2}, {11, Purpose::kSamplingNoise, index}).to(torch::kFloat64);
    };
    const auto fresh = [&](int64_t step, int64_t) { return draw(1000 + uint64_t(step)); };
    const Grid grid = make_grid(kSchedule, "uniform", 500);
    const auto mean = torch::mv(data.means.t(), data.weights);
    for (const auto& [name, make] : kStochastic) {
        const auto solver = make();
        const auto x = integrate(*solver, data.denoiser(), draw(3), grid, fresh, ignore_step);
        for (const int64_t axis : {0, 1}) {
            const auto along = x.select(1, axis);
            const double standard_error = along.std().item<double>() / std::sqrt(double(count));
            EXPECT_NEAR(along.mean().item<double>(), mean[axis].item<double>(), 4 * standard_error) << name;
            const auto cdf = [&](double at) {
                double sum = 0;
                for (int64_t k = 0; k < data.weights.size(0); ++k) {
                    sum += data.weights[k].item<double>() *
                           normal_cdf((at - data.means[k][axis].item<double>()) / data.std);
                }
                return sum;
            };
            EXPECT_GT(kolmogorov_smirnov(along, cdf), kSignificance) << name << ", axis " << axis;
        }
    }
}

TEST(Stochastic, TheDistanceTellsWrongDistributionsApart) {
    const auto x = noise(5000, 3);
    EXPECT_GT(kolmogorov_smirnov(x, normal_cdf), kSignificance);
    EXPECT_LT(kolmogorov_smirnov(x, [](double at) { return normal_cdf(at / 1.1); }), kSignificance);
    EXPECT_LT(kolmogorov_smirnov(x, [](double at) { return normal_cdf(at - 0.1); }), kSignificance);
}

TEST(Solver, AnotherNameIsTheSameSolverAndWalkedOnce) {
    EXPECT_EQ(find(solvers(), "euler"), find(solvers(), "ddim"));
    const auto all = names(solvers());
    const auto ddim = std::ranges::find(all, "ddim");
    EXPECT_EQ(ddim[1], "euler");
    EXPECT_EQ(std::ranges::count_if(solvers(), [](const auto& row) { return row.first == "euler"; }), 0);
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
    const auto image = kData.mean + kData.std * noise(100, 5);
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
        const auto image = kData.mean + kData.std * noise(100, 5);
        const auto up = make_solver("reversible"), down = make_solver("reversible");
        const auto latent = integrate(*up, kData.denoiser(), image, encode, no_noise, ignore_step);
        *down->second_state() = *up->second_state();
        const auto back = integrate(*down, kData.denoiser(), latent, decode, no_noise, ignore_step);
        // Rounding errors of double grow by 1 / 0.99 a step.
        EXPECT_LT((back - image).abs().max().item<double>(), 1e-10) << steps;
    }
}

/// How many evaluations a walk along the grid takes.
int64_t evaluations(const SolverKind& kind, const Grid& grid) {
    int64_t asked = 0;
    const Denoiser counting = [&](const torch::Tensor& x, const NoiseLevel& level) {
        ++asked;
        return kData.denoiser()(x, level);
    };
    const auto fresh = [](int64_t, int64_t) { return noise(4, 9); };
    integrate(*kind.make(on_schedule(kSchedule)), counting, noise(4, 8), grid, fresh, ignore_step);
    return asked;
}

TEST(Solver, StepsForANumberOfEvaluationsTakeNoMore) {
    for (const auto& [name, kind] : solvers()) {
        if (kind.adaptive) continue;  // it takes as many as its tolerance needs, and refuses a number
        for (const int64_t nfe : {2, 3, 4, 5, 6, 10, 50}) {
            if (nfe < kind.last_evaluations) continue;  // there is no such walk
            const Grid down = make_grid(kSchedule, "uniform", steps_for(kind, nfe, Direction::kSampling));
            EXPECT_LE(evaluations(kind, down), nfe) << name;
            EXPECT_GT(evaluations(kind, down) + kind.evaluations, nfe) << name << ": room for another step";
            if (kind.stochastic || nfe < kind.first_evaluations) continue;
            const Grid there = make_grid(kSchedule, "uniform", steps_for(kind, nfe, Direction::kEncoding));
            const int64_t up = evaluations(kind, reversed(there));
            EXPECT_LE(up, nfe) << name << ", encoding";
            EXPECT_LE(evaluations(kind, there), nfe) << name << ", decoding again";
            EXPECT_GT(up + kind.evaluations, nfe) << name << ", encoding: room for another step";
        }
    }
    const auto steps = [](const std::string& name, int64_t nfe, Direction direction) {
        return steps_for(look_up("solver", solvers(), name), nfe, direction);
    };
    expect_contains(error_of([&] { steps("reversible", 1, Direction::kSampling); }), "have room for none");
    expect_contains(error_of([&] { steps("rk4", 3, Direction::kEncoding); }), "have room for none");
    EXPECT_EQ(steps("rk4", 3, Direction::kSampling), 1);
}

// A network is wrong everywhere by a little, and grids must not make much of it. An error of eps of d everywhere moves
// the end of the exact ODE by d s asinh(r / s) on data of standard deviation s, from a start at ratio r: 0.06 here.
TEST(Solver, AnErrorOfEpsStaysSmallOnEverySchedule) {
    constexpr double kError = 0.02;
    const Denoiser wrong = [](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto eps = kData.denoiser()(x, level).eps + kError;
        return {(x - level.sigma * eps) / level.alpha, eps};
    };
    for (const auto& kind : schedule_names()) {
        const Schedule schedule = make_schedule({.kind = kind});
        const auto end = [&](const Denoiser& denoiser, const std::string& name, const Grid& grid) {
            const auto fresh = [](int64_t step, int64_t k) {
                return noise(16, 100 + 1000 * uint64_t(k) + uint64_t(step));
            };
            const auto solver = make_solver(name, on_schedule(schedule));
            return integrate(*solver, denoiser, noise(16, 8), grid, fresh, ignore_step);
        };
        for (const auto& spacing : {"uniform", "karras"}) {
            const Grid grid = make_grid(schedule, spacing, 50);
            const double exact = kError * kData.std * std::asinh(grid.front().ratio() / kData.std);
            for (const auto& name : names(solvers())) {
                const auto off =
                    (end(wrong, name, grid) - end(kData.denoiser(), name, grid)).abs().max().item<double>();
                // The ODE's own error, doubled for the steps' length (Euler-Maruyama's are the worst for long ones);
                // the reversible method's two states drift apart.
                EXPECT_LT(off, (name == "reversible"       ? 20
                                : name == "euler-maruyama" ? 3
                                                           : 2) *
                                   exact)
                    << name << " on " << kind << ", " << spacing;
            }
        }
    }
}

TEST(Solver, BeginsInPureNoiseWhereThePathEndsThere) {
    constexpr double kAtT = std::numeric_limits<double>::infinity();
    const auto fresh = [](int64_t step, int64_t k) { return noise(4000, 100 + 1000 * uint64_t(k) + uint64_t(step)); };
    for (const std::string kind : {"flow", "cosine-vp"}) {
        const Schedule schedule = make_schedule({.kind = kind});
        for (const auto& spacing : {"uniform", "karras", "flow"}) {
            const Grid grid = make_grid(schedule, spacing, 50, kAtT);
            EXPECT_EQ(grid.front().t, 1000) << spacing;
            EXPECT_EQ(grid.front().alpha, 0) << spacing;
            for (const auto& [name, row] : solvers()) {
                if (name == "reversible") continue;  // its two states drift apart in so long steps
                const auto end = integrate(*row.make(on_schedule(schedule)), kData.denoiser(), noise(4000, 8), grid,
                                           fresh, ignore_step);
                // What 50 steps leave; langevin's take a share of 1 - 0.8^10 of each level's excess.
                EXPECT_NEAR(end.mean().item<double>(), kData.mean, 0.1) << name << " on " << kind << ", " << spacing;
                EXPECT_NEAR(end.std().item<double>(), kData.std, 0.2) << name << " on " << kind << ", " << spacing;
            }
        }
    }
}

TEST(Solver, HeunIsAccurateWhereTheRatioIsHuge) {
    // The cosine schedule ends at r = 20,000: a mean of slopes in r over the first of 50 steps, 20,000 long, would be
    // off by far more than 1. The bound is three times what was measured.
    const Schedule cosine = make_schedule({.kind = "cosine", .steps = 1000});
    const Grid grid = make_grid(cosine, "uniform", 50, std::numeric_limits<double>::infinity());
    const auto x = noise(100, 6), exact = kData.flow(x, grid.front(), grid.back());
    EXPECT_LT((walk("heun", grid, x) - exact).abs().max().item<double>(), 0.01);
}

TEST(Solver, TheLastStepAsksNothingOfSigmaZero) {
    const Denoiser strict = [](const torch::Tensor& x, const NoiseLevel& level) {
        EXPECT_GT(level.sigma, 0);
        return kData.denoiser()(x, level);
    };
    const auto fresh = [](int64_t, int64_t) { return noise(4, 9); };
    for (const auto& [name, kind] : solvers()) {
        if (name == "reversible") continue;  // undoes the very step, and so asks at both ends
        if (kind.adaptive) continue;         // walks the ODE to its very end
        const auto solver = kind.make(on_schedule(kSchedule));
        integrate(*solver, strict, noise(4, 8), make_grid(kSchedule, "uniform", 5), fresh, ignore_step);
    }
}

}  // namespace
}  // namespace diffuse
