#include "diffuse/measure/two_sample.hpp"

#include <ATen/Parallel.h>

#include "diffuse/base/random.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

/// Points of N(mean, I): float32 [count, dimensions], others for each index.
Tensor normal_points(int64_t count, int64_t dimensions, uint64_t index, double mean = 0) {
    return normal({count, dimensions}, {.seed = 1, .purpose = Purpose::kTwoSample, .index = index}) + mean;
}

/// The standard error of the share of `count` tosses that show heads, each with this probability.
double error_of_share(double probability, int64_t count) {
    return std::sqrt(probability * (1 - probability) / double(count));
}

TEST(TwoSample, AClassifierCannotTellSamplesOfOneLaw) {
    const int64_t count = 2000;
    const auto x = normal_points(count, 2, 0), y = normal_points(count, 2, 1);
    // Each of the 2 N points is held out once, and named at random.
    EXPECT_NEAR(classifier_two_sample_test(x, y, 1).value, 0.5, 3 * error_of_share(0.5, 2 * count));
}

TEST(TwoSample, AClassifierTellsShiftedNormalLawsAsTheBestOneDoes) {
    // The best classifier of N(0, 1) and N(m, 1) asks whether a point is above m / 2, and is right with Phi(m / 2).
    const int64_t count = 2000;
    for (const double mean : {1.0, 3.0}) {
        const double best = std::erfc(-mean / 2 / std::sqrt(2.0)) / 2;
        const double accuracy =
            classifier_two_sample_test(normal_points(count, 1, 0), normal_points(count, 1, 1, mean), 1).value;
        EXPECT_NEAR(accuracy, best, 3 * error_of_share(best, 2 * count)) << mean;
    }
}

TEST(TwoSample, AClassifierAlwaysTellsSamplesFarApart) {
    auto x = normal_points(200, 2, 0), y = normal_points(200, 2, 1, 20);
    EXPECT_EQ(classifier_two_sample_test(x, y, 1, 100).value, 1);
    x.select(1, 1).fill_(3), y.select(1, 1).fill_(3);  // a coordinate without a deviation to divide by
    EXPECT_EQ(classifier_two_sample_test(x, y, 1, 100).value, 1);
}

TEST(TwoSample, AClassifierSeesEachCoordinateInItsOwnUnit) {
    const auto x = normal_points(300, 2, 0), y = normal_points(300, 2, 1, 1);
    const auto unit = torch::tensor({1 / 1024.0, 1024.0});  // powers of two, by which nothing is rounded
    EXPECT_EQ(classifier_two_sample_test(x * unit, y * unit, 1, 20).value,
              classifier_two_sample_test(x, y, 1, 20).value);
}

TEST(TwoSample, AClassifierTellsLawsThatDifferInShapeOnly) {
    // Of one mean and variance: +1 or -1 in each coordinate, with a normal number's spread around.
    const auto signs = normal_points(500, 2, 0).sign();
    const auto x = normal_points(500, 2, 1), y = 0.98 * signs + 0.2 * normal_points(500, 2, 2);
    EXPECT_GT(classifier_two_sample_test(x, y, 1, 100).value, 0.8);
}

TEST(TwoSample, TestsAreTheSameOnAnyNumberOfThreads) {
    const auto x = normal_points(301, 3, 0), y = normal_points(299, 3, 1, 0.5);
    const int threads = at::get_num_threads();
    std::vector<double> accuracies, distances, p_values;
    for (const int count : {1, 2}) {
        at::set_num_threads(count);
        accuracies.push_back(classifier_two_sample_test(x, y, 1, /*max_epochs=*/20).value);
        const auto [distance, p_value] = energy_test(torch::cat({x, x, x}), torch::cat({y, y, y}), 20, 1);
        distances.push_back(distance), p_values.push_back(p_value);
        EXPECT_EQ(at::get_num_threads(), count);
    }
    at::set_num_threads(threads);
    EXPECT_EQ(accuracies[0], accuracies[1]);
    EXPECT_EQ(distances[0], distances[1]);
    EXPECT_EQ(p_values[0], p_values[1]);
}

TEST(TwoSample, TheSeedDecides) {
    const auto x = normal_points(300, 2, 0), y = normal_points(300, 2, 1, 0.5);
    EXPECT_EQ(classifier_two_sample_test(x, y, 1, 5).value, classifier_two_sample_test(x, y, 1, 5).value);
    EXPECT_NE(classifier_two_sample_test(x, y, 1, 5).value, classifier_two_sample_test(x, y, 2, 5).value);
}

TEST(TwoSample, EnergyDistanceOfShiftedNormalLawsIsThatOfTheIntegral) {
    // X - Y ~ N(-1, 2) and X - X' ~ N(0, 2). For Z ~ N(m, s^2), E|Z| = s sqrt(2 / pi) exp(-m^2 / (2 s^2)) + m erf(m /
    // (s sqrt(2))).
    const double pi = std::acos(-1.0);
    const double between = 2 / std::sqrt(pi) * std::exp(-0.25) + std::erf(0.5), within = 2 / std::sqrt(pi);
    const double exact = 2 * between - 2 * within;
    EXPECT_NEAR(exact, 0.5418, 1e-4);
    // On a line the distance is 2 int (F - G)^2 dx. The quantiles at (i + 1/2) / n have a distribution function within
    // 1 / (2 n) of F's, so F - G is wrong by 1 / n at most; and int |F - G| dx is the shift, 1: the error is 4 / n at
    // most, but for terms of n^-2.
    const int64_t n = 1000;
    const auto quantiles =
        std::sqrt(2.0) * torch::erfinv(2 * (torch::arange(n, torch::kFloat64).unsqueeze(1) + 0.5) / double(n) - 1);
    EXPECT_NEAR(energy_test(quantiles, quantiles + 1, /*permutations=*/0, 1).distance, exact, 4.0 / double(n));
}

TEST(TwoSample, EnergyDistanceIsThatOfAllPairs) {
    const auto x = torch::tensor({0.0, 3.0}).unsqueeze(1), y = torch::tensor({1.0}).unsqueeze(1);
    // 2 (1 + 2) / 2 - (0 + 3 + 3 + 0) / 4 - 0
    EXPECT_NEAR(energy_test(x, y, 0, 1).distance, 1.5, 1e-14);
    const auto points = normal_points(50, 4, 0);
    EXPECT_NEAR(energy_test(points, points.flip(0), 0, 1).distance, 0, 1e-13);
    const auto [distance, p_value] = energy_test(torch::zeros({5, 2}), torch::zeros({6, 2}), 9, 1);
    EXPECT_EQ(distance, 0);
    EXPECT_EQ(p_value, 1);
}

TEST(TwoSample, EnergyTestCountsRelabellings) {
    // {0, 0} from {1, 1}: a third of the relabellings puts equal points together again, the others have distance 0.
    const auto zeros = torch::zeros({2, 1});
    const int64_t permutations = 3000;
    EXPECT_NEAR(energy_test(zeros, zeros + 1, permutations, 1).p_value, 1.0 / 3,
                3 * error_of_share(1.0 / 3, permutations));
}

TEST(TwoSample, EnergyTestsOfOneLawHaveUniformPValues) {
    const int tests = 20;
    double sum = 0;
    for (uint64_t i = 0; i < tests; ++i) {
        const double p = energy_test(normal_points(60, 1, 2 * i), normal_points(60, 1, 2 * i + 1), 1999, i).p_value;
        EXPECT_GE(p, 0.001);
        EXPECT_LE(p, 1);
        sum += p;
    }
    EXPECT_NEAR(sum / tests, 0.5, 0.2);  // three standard errors, (12 * 20)^-1/2 each
}

TEST(TwoSample, EnergyTestsOfOtherLawsHaveTheLeastPValue) {
    EXPECT_EQ(energy_test(normal_points(100, 1, 0), normal_points(100, 1, 1, 1), 1999, 1).p_value, 1.0 / 2000);
    EXPECT_EQ(energy_test(normal_points(100, 2, 0), 3 * normal_points(150, 2, 1), 1999, 1).p_value, 1.0 / 2000);
}

TEST(TwoSample, SamplesThatCannotBeComparedAreAnError) {
    const auto good = normal_points(10, 2, 0);
    auto broken = good.clone();
    broken[3][0] = NAN;
    broken[4][1] = INFINITY;
    const std::vector<std::function<void(const Tensor&, const Tensor&)>> tests = {
        [](const Tensor& x, const Tensor& y) { classifier_two_sample_test(x, y, 1, 1); },
        [](const Tensor& x, const Tensor& y) { energy_test(x, y, 1, 1); }};
    for (const auto& test : tests) {
        expect_contains(error_of([&] { test(good, broken); }), "2 of a sample's 10 points are not finite");
        expect_contains(error_of([&] { test(broken, good); }), "2 of a sample's 10 points are not finite");
        expect_contains(error_of([&] { test(good, normal_points(10, 3, 1)); }), "these have 2 and 3");
        expect_contains(error_of([&] { test(good.narrow(0, 0, 0), good); }), "points or more each");
    }
    expect_contains(error_of([&] { classifier_two_sample_test(good, good.narrow(0, 0, 4), 1); }), "5 points or more");
}

/// Ranks of parameters of N(0, 1), seen with noise of N(0, 1), among draws of a posterior of `width` times the right
/// standard deviation: N(seen / 2, 1 / 2) is right.
Tensor ranks_of_posterior(int64_t trials, int64_t draws, double width) {
    const auto truth = normal_points(trials, 1, 0), seen = truth + normal_points(trials, 1, 1);
    return (seen / 2 + width * std::sqrt(0.5) * normal_points(trials, draws, 2) < truth).sum(1);
}

TEST(TwoSample, RanksOfTheRightPosteriorAreUniformAndOfAnOverconfidentOneAreNot) {
    const int64_t trials = 1000, draws = 99, bins = 20;
    const auto right = rank_test(ranks_of_posterior(trials, draws, 1), draws, bins);
    EXPECT_GT(right.p_value, 0.01);
    EXPECT_LT(right.p_value, 0.99);
    const auto overconfident = rank_test(ranks_of_posterior(trials, draws, 0.5), draws, bins);
    EXPECT_LT(overconfident.p_value, 1e-9);
    EXPECT_GT(overconfident.counts.front() + overconfident.counts.back(), 3 * 2 * trials / bins);  // too often outside
}

TEST(TwoSample, RanksAreCountedInEqualBins) {
    const auto ranks = torch::tensor({0, 1, 2, 3, 4, 5, 5, 0}, torch::kInt64);
    const auto test = rank_test(ranks, /*draws=*/5, /*bins=*/3);
    EXPECT_EQ(test.counts, (std::vector<int64_t>{3, 2, 3}));
    EXPECT_NEAR(test.chi_square, 0.25, 1e-12);           // 8/3 in each: (1/9 + 4/9 + 1/9) / (8/3)
    EXPECT_NEAR(test.p_value, std::exp(-0.125), 1e-12);  // of two degrees of freedom
    EXPECT_EQ(rank_test(torch::arange(6), 5, 6).p_value, 1);
}

TEST(TwoSample, RanksThatCannotBeTestedAreAnError) {
    const auto ranks = torch::arange(6);
    expect_contains(error_of([&] { rank_test(ranks, 5, 4); }), "4 bins do not divide the 6 ranks");
    expect_contains(error_of([&] { rank_test(ranks, 5, 1); }), "take two or more bins");
    expect_contains(error_of([&] { rank_test(ranks, 3, 2); }), "each from 0 to 3");
    expect_contains(error_of([&] { rank_test(ranks - 1, 5, 2); }), "each from 0 to 5");
    expect_contains(error_of([&] { rank_test(ranks.narrow(0, 0, 0), 5, 2); }), "one or more");
}

TEST(TwoSample, ChiSquareTailsAreThoseOfTheTables) {
    EXPECT_NEAR(chi_square_p_value(3.841, 1), 0.05, 5e-5);
    EXPECT_NEAR(chi_square_p_value(16.919, 9), 0.05, 5e-6);
    EXPECT_NEAR(chi_square_p_value(21.666, 9), 0.01, 5e-6);
    EXPECT_NEAR(chi_square_p_value(124.342, 100), 0.05, 5e-6);
    EXPECT_NEAR(chi_square_p_value(3, 1), std::erfc(std::sqrt(1.5)), 1e-12);
    EXPECT_NEAR(chi_square_p_value(7, 2), std::exp(-3.5), 1e-12);
    EXPECT_EQ(chi_square_p_value(0, 9), 1);
}

}  // namespace
}  // namespace diffuse
