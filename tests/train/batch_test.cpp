#include "diffuse/train/batch.hpp"

#include <set>

#include "testing.hpp"

namespace diffuse {
namespace {

std::vector<int64_t> numbers(const torch::Tensor& t) {
    return {t.data_ptr<int64_t>(), t.data_ptr<int64_t>() + t.numel()};
}

/// t of each image of a batch.
std::vector<int64_t> times(int64_t step, int64_t batch, int64_t T) {
    std::vector<int64_t> result;
    for (const auto& level : training_levels(7, step, batch, make_schedule({.steps = T}))) {
        result.push_back(int64_t(level.t));
        EXPECT_EQ(double(result.back()), level.t);
    }
    return result;
}

TEST(DataOrder, EveryEpochHoldsEveryImageOnceInAnotherOrder) {
    DataOrder order(3, 50);
    const auto first = numbers(order.indices(0, 50)), second = numbers(order.indices(50, 50));
    EXPECT_EQ(std::set<int64_t>(first.begin(), first.end()).size(), 50u);
    EXPECT_EQ(std::set<int64_t>(second.begin(), second.end()).size(), 50u);
    EXPECT_NE(first, second);
}

TEST(DataOrder, AStepIsTheSameWhereverOneBegins) {
    DataOrder from_start(3, 50), from_there(3, 50);
    for (int64_t step = 0; step < 10; ++step) from_start.indices(step * 16, 16);
    EXPECT_EQ(numbers(from_start.indices(160, 16)), numbers(from_there.indices(160, 16)));
}

TEST(TrainingTimes, AreUniformOverOneToT) {
    std::vector<int> counts(11);
    for (int64_t step = 0; step < 5000; ++step) {
        for (const int64_t t : times(step, 4, 10)) {
            ASSERT_GE(t, 1);
            ASSERT_LE(t, 10);
            ++counts[size_t(t)];
        }
    }
    // 20,000 draws; five standard deviations of independent ones, which spreading only narrows.
    for (int t = 1; t <= 10; ++t) EXPECT_NEAR(counts[size_t(t)], 2000, 5 * 42) << "t " << t;
}

TEST(TrainingTimes, AreSpreadOverTheBatch) {
    const auto t = times(0, 100, 1000);
    for (size_t tenth = 0; tenth < 10; ++tenth) {
        const auto inside = [&](int64_t value) { return (value - 1) / 100 == int64_t(tenth); };
        EXPECT_NEAR(double(std::count_if(t.begin(), t.end(), inside)), 10, 1);
    }
}

TEST(TrainingTimes, OfANormalDensityThatReachesBeyondTheScheduleAreItsEnd) {
    const Schedule schedule = make_schedule({.kind = "scaled-linear"});
    const double mean = 2, std = 1, last = std::log(schedule.at(1000).ratio());
    int64_t at_end = 0;
    for (int64_t step = 0; step < 100; ++step) {
        for (const auto& level :
             training_levels(7, step, 100, schedule, {.kind = "log-normal", .mean = mean, .std = std})) {
            at_end += level.t == 1000;
        }
    }
    const double share = 0.5 * std::erfc((last - mean) / std / std::sqrt(2.0));  // 1 - Phi
    // Stratified over the 100 of a step, a share has less than the deviation of independent draws.
    EXPECT_NEAR(double(at_end) / 10'000, share, 4 * std::sqrt(share * (1 - share) / 10'000));
    EXPECT_GT(share, 0.2);
}

TEST(TrainingNoise, OfAnImageDoesNotDependOnTheBatchItIsIn) {
    const auto batch = training_noise(1, 40, 8, {1, 28, 28});
    EXPECT_TRUE(torch::equal(batch.narrow(0, 3, 2), training_noise(1, 43, 2, {1, 28, 28})));
    EXPECT_FALSE(torch::equal(batch[0], batch[1]));
}

/// The labels 0 .. 9 again and again, as a training with label_dropout 0.15 sees them from position `first` on.
torch::Tensor labels_seen(int64_t first, int64_t count, double dropout = 0.15) {
    return training_labels(7, first, torch::arange(first, first + count).remainder(10), dropout, /*none=*/10);
}

TEST(TrainingLabels, AreNoneAsOftenAsAskedAndElseAsTheyWere) {
    const int64_t count = 40'000;
    const auto seen = labels_seen(0, count), dropped = seen.eq(10);
    const double spread = std::sqrt(0.15 * 0.85 / double(count));
    EXPECT_NEAR(dropped.to(torch::kFloat64).mean().item<double>(), 0.15, 4 * spread);
    EXPECT_TRUE((dropped | seen.eq(torch::arange(count).remainder(10))).all().item<bool>());
    EXPECT_EQ(labels_seen(0, 1000, 0).max().item<int64_t>(), 9);
    EXPECT_EQ(labels_seen(0, 1000, 1).min().item<int64_t>(), 10);
}

TEST(TrainingLabels, OfAnImageDoNotDependOnTheBatchItIsIn) {
    EXPECT_TRUE(torch::equal(labels_seen(40, 200).narrow(0, 30, 50), labels_seen(70, 50)));
}

TEST(Flipped, MirrorsHalfOfTheImagesWhateverTheBatch) {
    const int64_t count = 4000;
    const auto images = torch::arange(2, torch::kUInt8).view({1, 1, 1, 2}).expand({count, 1, 1, 2});
    const auto seen = flipped(images, 7, 0);
    const auto mirrored = seen.select(3, 0).flatten();
    // four standard deviations of as many throws of a coin
    EXPECT_NEAR(mirrored.to(torch::kFloat64).mean().item<double>(), 0.5, 4 * 0.5 / std::sqrt(double(count)));
    EXPECT_TRUE(torch::equal(seen.select(3, 1).flatten(), 1 - mirrored));
    EXPECT_TRUE(torch::equal(flipped(images.narrow(0, 0, 50), 7, 70), seen.narrow(0, 70, 50)));
}

}  // namespace
}  // namespace diffuse
