#include "diffuse/measure/frechet.hpp"

#include "diffuse/base/random.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

torch::Tensor random(torch::IntArrayRef shape, uint64_t index) {
    return normal(shape, {.seed = 1, .index = index}).to(torch::kFloat64);
}
torch::Tensor rotation(int64_t size) { return std::get<0>(torch::linalg_qr(random({size, size}, 0))); }
torch::Tensor diagonal(const std::vector<double>& values) {
    return torch::diag(torch::tensor(values, torch::kFloat64));
}

/// Samples of different spread in every direction, correlated.
Gaussian some_gaussian(uint64_t index, int64_t samples = 100, int64_t features = 8) {
    return fit_gaussian(random({samples, features}, index).matmul(random({features, features}, index + 1)) +
                        random({features}, index + 2));
}
Gaussian rotated(const Gaussian& g, const torch::Tensor& q) {
    return {q.matmul(g.mean), q.matmul(g.covariance).matmul(q.t())};
}

TEST(Frechet, InOneDimensionIsTheDifferenceOfMeansAndOfDeviationsSquared) {
    const auto normal_1d = [](double mean, double std) {
        return Gaussian{torch::full({1}, mean, torch::kFloat64), torch::full({1, 1}, std * std, torch::kFloat64)};
    };
    EXPECT_NEAR(frechet_distance(normal_1d(1, 1), normal_1d(4, 3)), 9 + 4, 1e-12);
    EXPECT_NEAR(frechet_distance(normal_1d(2, 0), normal_1d(2, 5)), 25, 1e-12);
}

TEST(Frechet, OfCommutingCovariancesIsThatOfEachAxis) {
    const auto q = rotation(4);
    const Gaussian a = rotated({torch::zeros({4}, torch::kFloat64), diagonal({1, 4, 9, 2.25})}, q),
                   b = rotated({torch::ones({4}, torch::kFloat64), diagonal({16, 4, 1, 25})}, q);
    EXPECT_NEAR(frechet_distance(a, b), 4 + 9 + 0 + 4 + 12.25, 1e-10);
}

TEST(Frechet, OfCovariancesThatDoNotCommuteIsTheClosedFormInTwoDimensions) {
    // For 2x2 matrices, (tr M^1/2)^2 = tr M + 2 (det M)^1/2, here with M = C1 C2.
    const auto a = torch::tensor({3., 1., 1., 2.}, torch::kFloat64).view({2, 2}), b = diagonal({1, 5});
    const double trace = 3 + 10, determinant = 5 * 5;
    const auto zero = torch::zeros({2}, torch::kFloat64);
    EXPECT_NEAR(frechet_distance({zero, a}, {zero, b}), 5 + 6 - 2 * std::sqrt(trace + 2 * std::sqrt(determinant)),
                1e-12);
}

TEST(Frechet, IsZeroForEqualsSymmetricAndTheSameAfterARotation) {
    const Gaussian a = some_gaussian(10), b = some_gaussian(20);
    const double distance = frechet_distance(a, b), trace = a.covariance.trace().item<double>();
    EXPECT_GT(distance, 1);
    EXPECT_NEAR(frechet_distance(a, a), 0, 1e-12 * trace);
    EXPECT_NEAR(frechet_distance(b, a), distance, 1e-12 * distance);
    EXPECT_NEAR(frechet_distance(rotated(a, rotation(8)), rotated(b, rotation(8))), distance, 1e-12 * distance);
}

TEST(Frechet, OfSingularCovariancesIsThatOfEachAxisToo) {
    const auto q = rotation(4);
    const auto zero = torch::zeros({4}, torch::kFloat64);
    const Gaussian a = rotated({zero, diagonal({1, 4, 0, 0})}, q), b = rotated({zero, diagonal({9, 0, 16, 0})}, q);
    EXPECT_NEAR(frechet_distance(a, b), 4 + 4 + 16 + 0, 1e-6);
}

TEST(Frechet, OfTooFewSamplesIsFiniteAndNeverNegative) {
    for (const int64_t samples : {2, 3, 8, 64}) {
        const Gaussian a = some_gaussian(30, samples, 64), b = some_gaussian(40, samples, 64);
        const double distance = frechet_distance(a, b), trace = a.covariance.trace().item<double>();
        EXPECT_TRUE(std::isfinite(distance)) << samples;
        EXPECT_GT(distance, 0) << samples;
        EXPECT_NEAR(frechet_distance(a, a), 0, 1e-7 * trace) << samples;
    }
}

TEST(FitGaussian, IsMeanAndUnbiasedCovariance) {
    const auto g = fit_gaussian(torch::tensor({1.f, 0.f, 3.f, 6.f, 5.f, 3.f}).view({3, 2}));
    EXPECT_TRUE(torch::allclose(g.mean, torch::tensor({3., 3.}, torch::kFloat64)));
    EXPECT_TRUE(torch::allclose(g.covariance, torch::tensor({4., 3., 3., 9.}, torch::kFloat64).view({2, 2})));
}

TEST(Frechet, OfNearlyEqualSamplesIsNeverNegative) {
    // The terms cancel; what is left of them is rounding, of either sign: below zero as often as above.
    for (uint64_t index = 0; index < 20; ++index) {
        const Gaussian a = some_gaussian(10 * index);
        EXPECT_GE(frechet_distance(a, a), 0) << index;
    }
}

TEST(Frechet, OfWhatIsNotANumberIsAnErrorAndNoPerfectScore) {
    const Gaussian good = some_gaussian(10);
    for (const double bad : {std::nan(""), HUGE_VAL}) {
        const Gaussian of_mean = {torch::full_like(good.mean, bad), good.covariance},
                       of_covariance = {good.mean, torch::full_like(good.covariance, bad)};
        for (const auto& broken : {of_mean, of_covariance}) {
            expect_contains(error_of([&] { frechet_distance(good, broken); }), "not finite");
            expect_contains(error_of([&] { frechet_distance(broken, good); }), "not finite");
        }
    }
}

TEST(FitGaussian, SaysOfHowManyImagesTheFeaturesAreNotFinite) {
    auto features = torch::zeros({5, 3});
    features[1][2] = NAN;
    features[4][0] = INFINITY;
    expect_contains(error_of([&] { fit_gaussian(features); }), "the features of 2 of 5 images are not finite");
}

TEST(FitGaussian, RefusesASingleImage) {
    expect_contains(error_of([] { fit_gaussian(torch::zeros({1, 4})); }), "two images or more; there are 1");
}

}  // namespace
}  // namespace diffuse
