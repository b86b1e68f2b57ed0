#include "solve/adaptive.hpp"

#include <cmath>
#include <limits>

#include "diffuse/base/random.hpp"
#include "diffuse/solve/likelihood.hpp"
#include "testing.hpp"

/// Steps of an adaptive length, against equations whose solution is known.
namespace diffuse {
namespace {

torch::Tensor number(double value) { return torch::full({1}, value, torch::kFloat64); }

/// The end of dy/du = slope from y at 0 to 1, in one step: so small that any tolerance holds.
double one_step(double y, const std::function<double(double u, double y)>& slope) {
    int evaluations = 0;
    const Slope of_state = [&](double u, const State& state) -> State {
        ++evaluations;
        return {number(slope(u, state[0].item<double>()))};
    };
    const double end = dormand_prince(of_state, {number(y)}, 0, 1, /*tolerance=*/1)[0].item<double>();
    EXPECT_EQ(evaluations, 7);  // the last one would be the next step's first
    return end;
}

TEST(DormandPrince, IsExactForPolynomialsOfDegreeFour) {
    for (int power = 0; power <= 4; ++power) {
        const double size = 1e-6;
        const double end = one_step(0, [&](double u, double) { return size * std::pow(u, power); });
        EXPECT_NEAR(end, size / (power + 1), 1e-15 * size) << power;
    }
    const double beyond = one_step(0, [](double u, double) { return 1e-6 * std::pow(u, 5); });
    EXPECT_GT(std::abs(beyond - 1e-6 / 6), 1e-11);  // not of degree five
}

TEST(DormandPrince, HasItsStabilityFunction) {
    // 1 + z + ... + z^5 / 120 + z^6 / 600 (Hairer & Wanner 1996, Solving Ordinary Differential Equations II, eq. 2.13),
    // here at z = 1.
    const double size = 1e-6;
    const double expected = 1 + 1 + 1.0 / 2 + 1.0 / 6 + 1.0 / 24 + 1.0 / 120 + 1.0 / 600;
    EXPECT_NEAR(one_step(size, [](double, double y) { return y; }), size * expected, 1e-14 * size);
}

TEST(DormandPrince, StopsWhereNoStepIsShortEnough) {
    const Slope rough = [](double u, const State&) -> State { return {number(1e3 * std::sin(1e12 * u))}; };
    expect_contains(error_of([&] { dormand_prince(rough, {number(0)}, 0, 1, 1e-10); }), "cannot be held");
    const Slope broken = [](double, const State&) -> State {
        return {number(std::numeric_limits<double>::quiet_NaN())};
    };
    expect_contains(error_of([&] { dormand_prince(broken, {number(0)}, 0, 1, 1e-3); }), "cannot be held");
}

/// The ODE's way from a level to a ratio of 0.01, as it is and by dopri5.
template <class Data>
void expect_errors_of_the_tolerance(const Data& data, const NoiseLevel& from, const torch::Tensor& x) {
    const NoiseLevel to = level_of_ratio(0.01);
    const auto exact = data.flow(x, from, to);
    int64_t before = 0;
    for (const double tolerance : {1e-3, 1e-5, 1e-7, 1e-9}) {
        int64_t evaluations = 0;
        const Denoiser counting = [&](const torch::Tensor& at, const NoiseLevel& level) {
            ++evaluations;
            return data.denoiser()(at, level);
        };
        const auto end = make_solver("dopri5", {.tolerance = tolerance})->step(counting, x, from, to, {});
        // Errors of some tens of steps, which the flow makes smaller, not larger.
        EXPECT_LT((end - exact).abs().max().template item<double>(), 30 * tolerance);
        if (before > 0) {
            // Order 5: a hundredth of the tolerance takes 100^(1/5) = 2.5 times the steps, of which some are rejected.
            EXPECT_GT(evaluations, before);
            EXPECT_LT(evaluations, 4 * before);
        }
        before = evaluations;
    }
}

TEST(Dopri5, ErrsByItsToleranceOnGaussianData) {
    expect_errors_of_the_tolerance(GaussianData{}, level_of_ratio(40),
                                   normal({50, 1, 1, 1}, {7, Purpose::kSamplingNoise, 0}).to(torch::kFloat64));
}

TEST(Dopri5, ErrsByItsToleranceOnAMixtureInThePlane) {
    expect_errors_of_the_tolerance(MixtureData{}, level_of_ratio(3),
                                   normal({20, 2}, {7, Purpose::kSamplingNoise, 10}).to(torch::kFloat64));
}

TEST(Dopri5, GoesBackToWhereItCameFrom) {
    const auto x = normal({20, 2}, {7, Purpose::kSamplingNoise, 11}).to(torch::kFloat64);
    const NoiseLevel noise = level_of_ratio(40);
    const MixtureData mixture;
    const auto latents =
        make_solver("dopri5", {.tolerance = 1e-8})->step(mixture.denoiser(), x, level_of_ratio(1e-3), noise, {});
    const auto back =
        make_solver("dopri5", {.tolerance = 1e-8})->step(mixture.denoiser(), latents, noise, level_of_ratio(1e-3), {});
    // The way down multiplies what is wrong in the latents by the spread of the modes over that of noise, some tens.
    EXPECT_TRUE(torch::allclose(back, x, 0, 1e-5));
}

TEST(Dopri5, OfAnExampleDoesNotDependOnItsNeighbours) {
    const MixtureData mixture;
    const auto x = normal({6, 2}, {7, Purpose::kSamplingNoise, 12});
    const auto drawn = [&](const torch::Tensor& some) {
        Sampler sampler{.solver = [] { return make_solver("dopri5", {.tolerance = 1e-4}); },
                        .denoiser = [&](const Condition&, const Counter&) { return mixture.denoiser(); },
                        .grid = {level_of_ratio(40), NoiseLevel{}},
                        .alone = true};
        return run(sampler, some).x;
    };
    EXPECT_TRUE(torch::equal(drawn(x).narrow(0, 2, 3), drawn(x.narrow(0, 2, 3))));
}

TEST(Likelihood, AlongTheAdaptiveWayIsTheDensityOfGaussianData) {
    const GaussianData data;
    const auto x = data.mean + data.std * normal({5, 1, 2, 2}, {7, Purpose::kDigit, 0}).to(torch::kFloat64);
    const Grid grid = {level_of_ratio(1e-3), level_of_ratio(1e6)};
    const double variance = data.variance(grid.front());
    const auto at_first = grid.front().alpha * x;
    const auto expected =
        (-0.5 * ((at_first - grid.front().alpha * data.mean).square() / variance) - 0.5 * std::log(2 * M_PI * variance))
            .flatten(1)
            .sum(1);
    const auto found = ode_log_density(data.denoiser(), grid, at_first, /*probes=*/0, {}, /*tolerance=*/1e-8);
    // 1 / r of the last level is what p lacks of being standard normal there; the ODE's error is less.
    EXPECT_TRUE(torch::allclose(found, expected, 0, 1e-5));
}

}  // namespace
}  // namespace diffuse
