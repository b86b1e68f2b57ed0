#include "diffuse/data/digits.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <numeric>

namespace diffuse {
namespace {

constexpr size_t kPixels = kDigitSize * kDigitSize;
using Image = std::array<uint8_t, kPixels>;
using Means = std::array<std::array<double, kPixels>, 10>;

Image draw(int label, uint64_t seed, uint64_t index) {
    Image image;
    draw_digit(label, seed, index, image.data());
    return image;
}

double mean(const Image& image) { return std::accumulate(image.begin(), image.end(), 0.0) / kPixels; }

bool in_border(size_t row, size_t column, size_t width) {
    return std::min(row, column) < width || std::max(row, column) >= kDigitSize - width;
}

/// The mean image of each label over the indices 0 .. 99.
Means class_means() {
    Means means{};
    for (int label = 0; label < 10; ++label) {
        for (uint64_t index = 0; index < 100; ++index) {
            const Image image = draw(label, 0, index);
            for (size_t i = 0; i < kPixels; ++i) means[size_t(label)][i] += image[i] / 100.0;
        }
    }
    return means;
}

int nearest_mean(const Means& means, const Image& image) {
    std::array<double, 10> distances;
    std::transform(means.begin(), means.end(), distances.begin(), [&](const auto& mean) {
        return std::transform_reduce(mean.begin(), mean.end(), image.begin(), 0.0, std::plus<>(),
                                     [](double a, double b) { return (a - b) * (a - b); });
    });
    return int(std::min_element(distances.begin(), distances.end()) - distances.begin());
}

TEST(Digits, AreAFunctionOfLabelSeedAndIndex) {
    for (int label = 0; label < 10; ++label) EXPECT_EQ(draw(label, 7, 42), draw(label, 7, 42));
}

TEST(Digits, DifferByLabelSeedAndIndex) {
    for (int label = 0; label < 10; ++label) {
        const Image image = draw(label, 7, 42);
        EXPECT_NE(image, draw(label, 7, 43));
        EXPECT_NE(image, draw(label, 8, 42));
        EXPECT_NE(image, draw((label + 1) % 10, 7, 42));
    }
}

TEST(Digits, WriteEveryPixelOfTheBuffer) {
    Image image;
    image.fill(99);
    draw_digit(3, 7, 42, image.data());
    EXPECT_EQ(image, draw(3, 7, 42));
}

TEST(Digits, HaveInkButNotTooMuch) {
    // Over 20,000 digits the mean pixel is between 9 and 66; MNIST's, over all its digits, is 33.
    for (int i = 0; i < 500; ++i) {
        const Image image = draw(i % 10, 0, uint64_t(i));
        EXPECT_GT(mean(image), 5) << "digit " << i;
        EXPECT_LT(mean(image), 80) << "digit " << i;
        EXPECT_GT(*std::max_element(image.begin(), image.end()), 230) << "digit " << i;
    }
}

TEST(Digits, KeepABlackBorderOfThreePixels) {
    for (int i = 0; i < 500; ++i) {
        const Image image = draw(i % 10, 0, uint64_t(i));
        for (size_t p = 0; p < kPixels; ++p) {
            const bool border = in_border(p / kDigitSize, p % kDigitSize, 3);
            EXPECT_FALSE(border && image[p] > 0) << "digit " << i << ", pixel " << p;
        }
    }
}

TEST(Digits, AreCentredOnTheirMass) {
    // The farthest of 20,000 is 1 pixel off: what is centred is the pen's path, where overlapping strokes count twice.
    for (int i = 0; i < 500; ++i) {
        const Image image = draw(i % 10, 0, uint64_t(i));
        double x = 0, y = 0;
        for (size_t p = 0; p < kPixels; ++p) {
            x += image[p] * (p % kDigitSize + 0.5), y += image[p] * (p / kDigitSize + 0.5);
        }
        EXPECT_NEAR(x / (mean(image) * kPixels), kDigitSize / 2.0, 2) << "digit " << i;
        EXPECT_NEAR(y / (mean(image) * kPixels), kDigitSize / 2.0, 2) << "digit " << i;
    }
}

TEST(Digits, AreToldApartByTheNearestClassMean) {
    const Means means = class_means();
    int correct = 0;
    for (int i = 0; i < 500; ++i) correct += nearest_mean(means, draw(i % 10, 1, uint64_t(i))) == i % 10;
    EXPECT_GT(correct, 425);  // of 500; measured: 487, by chance: 50
}

}  // namespace
}  // namespace diffuse
