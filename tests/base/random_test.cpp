#include "diffuse/base/random.hpp"

#include <ATen/Parallel.h>

#include <set>

#include "testing.hpp"

namespace diffuse {
namespace {

TEST(Random, IsPhilox4x32_10) {
    // The known answer for counter 0 and key 0 in the authors' library Random123 (kat_vectors).
    Random random(Key{});
    for (const uint32_t expected : {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u})
        EXPECT_EQ(random.bits(), expected);
}

TEST(Random, NormalNumbersHaveTheMomentsOfTheStandardNormal) {
    const int64_t count = 1'000'000;
    const auto z = normal({count}, {1, Purpose::kTrainingNoise, 2}).to(torch::kFloat64);
    // Five standard errors of each moment: 1, sqrt(2), sqrt(15) and sqrt(96), over sqrt(count).
    EXPECT_NEAR(z.mean().item<double>(), 0, 5e-3);
    EXPECT_NEAR(z.square().mean().item<double>(), 1, 5 * 1.42e-3);
    EXPECT_NEAR(z.pow(3).mean().item<double>(), 0, 5 * 3.88e-3);
    EXPECT_NEAR(z.pow(4).mean().item<double>(), 3, 5 * 9.8e-3);
}

TEST(Random, NormalNumbersDoNotDependOnTheThreadCount) {
    const Key key{3, Purpose::kSamplingNoise, 7, 1};
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const auto one = normal({100'001}, key);
    at::set_num_threads(3);
    EXPECT_TRUE(torch::equal(one, normal({100'001}, key)));
    at::set_num_threads(threads);
}

TEST(Random, NoiseOfABatchIsThatOfEachImageOnAnyNumberOfThreads) {
    const int threads = at::get_num_threads();
    for (const int count : {1, 3}) {
        at::set_num_threads(count);
        const auto batch = normal_images(3, Purpose::kSamplingNoise, 5, 100, {1, 28, 28}, 2);
        for (int64_t i = 0; i < 100; ++i) {
            EXPECT_TRUE(torch::equal(batch[i], normal({1, 28, 28}, {3, Purpose::kSamplingNoise, uint64_t(5 + i), 2})));
        }
    }
    at::set_num_threads(threads);
    EXPECT_EQ(normal_images(3, Purpose::kSamplingNoise, 0, 0, {1, 28, 28}, 0).sizes(),
              (torch::IntArrayRef{0, 1, 28, 28}));
}

TEST(Random, EveryPartOfTheKeyMatters) {
    const std::vector<Key> keys = {{0, Purpose::kDigit, 0, 0},
                                   {1, Purpose::kDigit, 0, 0},
                                   {0, Purpose::kLabel, 0, 0},
                                   {0, Purpose::kDigit, 1, 0},
                                   {0, Purpose::kDigit, 0, 1},
                                   {uint64_t{1} << 32, Purpose::kDigit, 0, 0},
                                   {0, Purpose::kDigit, uint64_t{1} << 32, 0}};
    std::set<uint32_t> first;
    for (const Key& key : keys) first.insert(Random(key).bits());
    EXPECT_EQ(first.size(), keys.size());
}

TEST(Random, PurposesKeepTheirNumbersForever) {
    // Each is part of every number drawn for it: with another one, old runs would go on with other noise.
    const std::vector<Purpose> in_order = {Purpose::kDigit,          Purpose::kLabel,          Purpose::kPermutation,
                                           Purpose::kTrainingTime,   Purpose::kTrainingNoise,  Purpose::kDropout,
                                           Purpose::kSamplingNoise,  Purpose::kInitialWeights, Purpose::kAugmentation,
                                           Purpose::kDequantisation, Purpose::kBoundNoise,     Purpose::kProbe};
    for (size_t i = 0; i < in_order.size(); ++i) EXPECT_EQ(size_t(in_order[i]), i);
}

TEST(Random, APermutationHoldsEachNumberOnceAndChangesWithTheIndex) {
    const auto first = permutation(1000, {5, Purpose::kPermutation, 0});
    EXPECT_EQ(std::set<int64_t>(first.begin(), first.end()).size(), 1000u);
    EXPECT_EQ(first, permutation(1000, {5, Purpose::kPermutation, 0}));
    EXPECT_NE(first, permutation(1000, {5, Purpose::kPermutation, 1}));
}

TEST(Random, BelowIsUniform) {
    std::vector<int> counts(7);
    Random random({11, Purpose::kTrainingTime, 0});
    for (int i = 0; i < 70'000; ++i) ++counts[random.below(7)];
    for (const int count : counts) EXPECT_NEAR(count, 10'000, 5 * 93);  // five standard deviations of a binomial
}

}  // namespace
}  // namespace diffuse
