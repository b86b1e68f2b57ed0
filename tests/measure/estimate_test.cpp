// Standard errors against what they are of: the spread of a number over repeated draws of a known distribution.

#include "diffuse/measure/estimate.hpp"

#include "diffuse/base/random.hpp"
#include "diffuse/measure/frechet.hpp"
#include "diffuse/measure/precision_recall.hpp"
#include "diffuse/measure/two_sample.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

/// Others for each draw and part of it.
torch::Tensor drawn_normal(torch::IntArrayRef shape, int64_t draw, uint64_t part = 0) {
    return normal(shape, {3, Purpose::kLab, uint64_t(draw), uint32_t(part)}).to(torch::kFloat64);
}

/// The root mean square of the errors over the standard deviation of the values: 1 where the errors are right. Of R
/// draws it varies by about 1 / sqrt(2 R).
double error_over_spread(int64_t draws, const std::function<Estimate(int64_t draw)>& measure) {
    auto values = torch::empty({draws}, torch::kFloat64), squares = torch::empty({draws}, torch::kFloat64);
    for (int64_t i = 0; i < draws; ++i) {
        const Estimate found = measure(i);
        values[i] = found.value, squares[i] = found.error * found.error;
    }
    return std::sqrt(squares.mean().item<double>()) / values.std().item<double>();
}

TEST(Estimate, TheErrorOfAMeanAMedianAndAShareIsTheirSpread) {
    const auto numbers = [](int64_t draw) { return drawn_normal({400}, draw); };
    const auto mean = [&](int64_t draw) { return mean_estimate(numbers(draw)); };
    const auto median = [&](int64_t draw) { return median_estimate(numbers(draw)); };
    const auto share = [&](int64_t draw) {
        return share_estimate((numbers(draw) > 1).to(torch::kFloat64).mean().item<double>(), 400);
    };
    const double tolerance = 3 / std::sqrt(2 * 200.0);
    EXPECT_NEAR(error_over_spread(200, mean), 1, tolerance);
    EXPECT_NEAR(error_over_spread(200, median), 1, tolerance);
    EXPECT_NEAR(error_over_spread(200, share), 1, tolerance);
}

TEST(Estimate, AShareOfNoneOrAllHasAnErrorOfAboutOneExample) {
    for (const double share : {0.0, 1.0}) EXPECT_NEAR(share_estimate(share, 256).error, 1 / 256.0, 0.05 / 256) << share;
}

TEST(Estimate, TheJackknifeOfAMeanIsTheErrorOfTheGroupsMeans) {
    // Of one example a group it is s / sqrt(N) exactly.
    const auto numbers = drawn_normal({20}, 0);
    const double error = jackknife_error(
        20, [&](const torch::Tensor& left) { return numbers.index_select(0, left).mean().item<double>(); });
    EXPECT_NEAR(error, mean_estimate(numbers).error, 1e-12);
    EXPECT_TRUE(std::isnan(jackknife_error(2, [](const torch::Tensor&) { return 1.0; })));
}

TEST(Estimate, TheErrorOfAFrechetDistanceIsItsSpread) {
    const Gaussian truth{torch::zeros({8}, torch::kFloat64), torch::eye(8, torch::kFloat64)};
    const auto far = [&](int64_t draw) { return frechet_estimate(0.5 + 1.3 * drawn_normal({500, 8}, draw), truth); };
    EXPECT_NEAR(error_over_spread(60, far), 1, 3 / std::sqrt(2 * 60.0));
    // A distance that is all chance: too large by sqrt(2), as `jackknife_error` says.
    const auto near = [&](int64_t draw) { return frechet_estimate(drawn_normal({500, 8}, draw), truth); };
    EXPECT_NEAR(error_over_spread(60, near), std::sqrt(2.0), 3 * std::sqrt(2.0) / std::sqrt(2 * 60.0));
}

TEST(Estimate, TheErrorsOfPrecisionAndRecallAreTheirSpread) {
    const auto real = drawn_normal({1000, 6}, 0, 1);
    const auto both = [&](int64_t draw) { return precision_and_recall(real, 0.9 * drawn_normal({200, 6}, draw), 3); };
    const auto precision = [&](int64_t draw) { return both(draw).precision; };
    const auto recall = [&](int64_t draw) { return both(draw).recall; };
    // That of recall is no formula's: 1.0 to 1.3 times the spread in 4 to 16 dimensions.
    const double chance = 3 / std::sqrt(2 * 60.0);
    EXPECT_NEAR(error_over_spread(60, precision), 1, chance);
    EXPECT_NEAR(error_over_spread(60, recall), 1.15, 0.15 + 1.15 * chance);
}

TEST(Frechet, OfDrawsFromTheTruthIsWhatSoManyDrawsAlwaysHave) {
    // F / n + F (F + 1) / (4 n); the next term, F (F / n)^2 / 32, is 0.008, and 20 draws leave 0.008 of chance.
    const int64_t n = 1000, features = 64;
    const Gaussian truth{torch::zeros({features}, torch::kFloat64), torch::eye(features, torch::kFloat64)};
    double sum = 0;
    for (int64_t draw = 0; draw < 20; ++draw) {
        sum += frechet_distance(fit_gaussian(drawn_normal({n, features}, draw)), truth);
    }
    const double expected = double(features) / n + double(features * (features + 1)) / (4 * n);
    EXPECT_NEAR(expected, 1.104, 1e-12);
    EXPECT_NEAR(sum / 20, expected, 0.03);
}

TEST(TwoSample, TheErrorOfAClassifiersAccuracyIsItsSpread) {
    // At equal distributions the spread is above the binomial 0.025 of 2 x 200 points: folds share training points.
    const auto accuracy = [](int64_t draw) {
        return classifier_two_sample_test(drawn_normal({200, 2}, draw), drawn_normal({200, 2}, draw, 1), 1,
                                          /*max_epochs=*/60);
    };
    // Beside the chance of 60 values, each error is of five folds: sqrt(2 / 4) in its square.
    EXPECT_NEAR(error_over_spread(60, accuracy), 1, 3 * std::sqrt(1 / (2 * 60.0) + 0.5 / (4 * 60.0)));
}

TEST(TwoSample, AClassifierOfEqualPointsIsRightHalfTheTime) {
    // It can but name the sample of which it was trained on more: of none, or what is held out would be the other.
    const auto same = torch::zeros({20, 1});
    for (const uint64_t seed : {1, 2, 3}) EXPECT_EQ(classifier_two_sample_test(same, same, seed, 20).value, 0.5);
}

TEST(TwoSample, ClassBalancedDrawsAgainstNineToOneAreToldInSevenOfTen) {
    // Modes far apart: the frequent one is rightly named of 0.9 against 0.5, the other of 0.5 against 0.1.
    const int64_t count = 2000;
    const auto mode = torch::arange(count).remainder(10).eq(0), half = torch::arange(count).remainder(2).eq(0);
    const auto at = [&](const torch::Tensor& second, int64_t draw) {
        return (drawn_normal({count}, draw) + 20 * second).unsqueeze(1);
    };
    EXPECT_NEAR(classifier_two_sample_test(at(mode, 0), at(half, 1), 1).value, 0.7,
                3 * std::sqrt(0.21 / (2.0 * count)));
}

}  // namespace
}  // namespace diffuse
