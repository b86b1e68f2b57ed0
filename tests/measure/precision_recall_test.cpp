#include "diffuse/measure/precision_recall.hpp"

#include "diffuse/base/random.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

Tensor values(const std::vector<double>& list) { return torch::tensor(list, torch::kFloat64); }
Tensor on_a_line(const std::vector<double>& points) { return values(points).unsqueeze(1); }
/// first, first + 1, ..., in an order that is not theirs.
Tensor in_a_row(int64_t count, double first = 0) {
    return (torch::arange(count, torch::kFloat64) * 7).remainder(double(count)).add(first).unsqueeze(1);
}
Tensor random_points(int64_t count, int64_t features, uint64_t index) {
    return normal({count, features}, {.seed = 1, .index = index}).to(torch::kFloat64);
}

TEST(ManifoldRadii, AreTheDistancesToTheKthNearestOtherPoint) {
    const auto points = on_a_line({0, 1, 3, 7});
    EXPECT_TRUE(torch::equal(manifold_radii(points, 1), values({1, 1, 2, 4})));
    EXPECT_TRUE(torch::equal(manifold_radii(points, 2), values({3, 2, 3, 6})));
    EXPECT_TRUE(torch::equal(manifold_radii(points, 3), values({7, 6, 4, 7})));
}

TEST(ManifoldRadii, CountAnEqualPointAsAnother) {
    const auto points = on_a_line({2, 2, 2, 5});
    EXPECT_TRUE(torch::equal(manifold_radii(points, 2), values({0, 0, 0, 3})));
    EXPECT_TRUE(torch::equal(manifold_radii(points, 3), values({3, 3, 3, 3})));
}

TEST(ManifoldRadii, NeedMorePointsThanNeighbours) {
    expect_contains(error_of([] { manifold_radii(on_a_line({1, 2, 3}), 3); }), "4 images or more; there are 3");
    const auto enough = in_a_row(4), few = in_a_row(2);
    expect_contains(error_of([&] { precision_and_recall(enough, few, 3); }), "4 images or more; there are 2");
    expect_contains(error_of([&] { precision_and_recall(few, enough, 3); }), "4 images or more; there are 2");
}

TEST(CoveredShare, CountsPointsInTheClosedBallsOfTheManifold) {
    const auto manifold = on_a_line({0, 1, 3, 7}), radii = manifold_radii(manifold, 1);  // up to 11
    EXPECT_EQ(covered_share(on_a_line({-1.5, -1, 5, 11, 11.5}), manifold, radii), 0.6);
}

TEST(PrecisionAndRecall, OfASetAgainstItselfAreOne) {
    const auto points = random_points(50, 8, 0);
    const auto [precision, recall] = precision_and_recall(points, points.flip(0), 3);
    EXPECT_EQ(precision.value, 1);
    EXPECT_EQ(recall.value, 1);
}

TEST(PrecisionAndRecall, OfClustersFarApartAreZero) {
    const auto [precision, recall] = precision_and_recall(random_points(50, 8, 0), random_points(50, 8, 1) + 100, 3);
    EXPECT_EQ(precision.value, 0);
    EXPECT_EQ(recall.value, 0);
}

TEST(PrecisionAndRecall, OfHalfOfTheModesAreOneAndAHalf) {
    const auto both = torch::cat({in_a_row(10), in_a_row(10, 1000)}), one = in_a_row(9, 0.5);
    const auto [precision, recall] = precision_and_recall(both, one, 3);
    EXPECT_EQ(precision.value, 1);
    EXPECT_EQ(recall.value, 0.5);
    const auto [swapped_precision, swapped_recall] = precision_and_recall(one, both, 3);
    EXPECT_EQ(swapped_precision.value, 0.5);
    EXPECT_EQ(swapped_recall.value, 1);
}

TEST(NearestDistances, OfACopyIsZeroAndOfANearPointLosesNoDigits) {
    const auto points = random_points(100, 64, 0) * 1000;
    auto others = points.flip(0).clone();
    others[0][5] += 1e-6;  // of the last point
    const auto distances = nearest_distances(points, others);
    EXPECT_EQ(distances.narrow(0, 0, 99).abs().max().item<double>(), 0);
    EXPECT_NEAR(distances[99].item<double>(), 1e-6, 1e-12);  // a number near 1000 is rounded by 1e-13
}

TEST(CopiedShare, IsThatOfDistancesUpToTheFirstPercentile) {
    const auto test = torch::arange(101, torch::kFloat64) + 10;  // the percentiles: 10 .. 110
    EXPECT_EQ(copied_share(values({0, 10.5, 11.5, 60}), test), 0.5);
    EXPECT_EQ(copied_share(values({0, 1}), torch::zeros({100}, torch::kFloat64)), 0.5);  // test images that are copies
}

TEST(CopiedShare, CountsCopies) {
    const auto train = random_points(200, 8, 0), test = random_points(100, 8, 1);
    const auto generated = torch::cat({train.narrow(0, 0, 5), random_points(15, 8, 2) + 100});
    EXPECT_EQ(copied_share(nearest_distances(generated, train), nearest_distances(test, train)), 0.25);
}

TEST(PrecisionAndRecall, AreTheSameOfMorePointsThanAreMeasuredAtOnce) {
    // 5000 x 5000 distances would take 200 MB; the answers are known.
    const auto points = in_a_row(5000);
    const auto radii = manifold_radii(points, 3), x = points.squeeze(1);
    const auto at_an_end = (x == 0).logical_or(x == 4999);
    EXPECT_TRUE(torch::equal(radii, torch::where(at_an_end, 3.0, 2.0).to(torch::kFloat64)));
    EXPECT_TRUE(torch::equal(nearest_distances(points + 0.25, points), torch::full({5000}, 0.25, torch::kFloat64)));
    EXPECT_EQ(covered_share(in_a_row(5000, 2503), points, radii), 0.5);  // those up to 5002 = 4999 + 3
}

TEST(NearestDistances, OfFeaturesThatAreNotFiniteAreAnError) {
    auto broken = in_a_row(10);
    broken[3][0] = NAN;
    broken[4][0] = INFINITY;
    const auto good = in_a_row(10);
    for (const auto& action : std::vector<std::function<void()>>{[&] { nearest_distances(broken, good); },
                                                                 [&] { nearest_distances(good, broken); },
                                                                 [&] { manifold_radii(broken, 3); }}) {
        expect_contains(error_of(action), "the features of 2 of 10 images are not finite");
    }
}

}  // namespace
}  // namespace diffuse
