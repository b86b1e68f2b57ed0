#include "diffuse/nets/classifier.hpp"

#include <ATen/Parallel.h>

#include "diffuse/base/random.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/measure/frechet.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

torch::Tensor drawn_digits(int64_t count) {
    return to_signed(load_dataset({.kind = "digits", .limit = count}, Split::kTrain).examples);
}

void expect_equal(const Classification& a, const Classification& b) {
    EXPECT_TRUE(torch::equal(a.features, b.features));
    EXPECT_TRUE(torch::equal(a.probabilities, b.probabilities));
}

TEST(Classifier, SaysTheSameOfAnImageWhateverTheBatchAndTheThreads) {
    const auto classifier = Classifier::pretrained();
    const auto images = drawn_digits(70);
    const Classification all = classifier.classify(images), some = classifier.classify(images.narrow(0, 0, 33));
    expect_equal(some, {all.features.narrow(0, 0, 33), all.probabilities.narrow(0, 0, 33)});
    const Classification alone = classifier.classify(images.narrow(0, 37, 1));
    EXPECT_TRUE(torch::allclose(alone.features, all.features.narrow(0, 37, 1), 1e-5, 1e-6));

    const int threads = at::get_num_threads();
    for (const int other : {1, 3}) {
        at::set_num_threads(other);
        expect_equal(classifier.classify(images), all);
    }
    at::set_num_threads(threads);
}

TEST(Classifier, GivesFeaturesInDoubleAndProbabilities) {
    const Classification found = Classifier::pretrained().classify(drawn_digits(5));
    EXPECT_EQ(found.features.sizes(), (torch::IntArrayRef{5, 64}));
    EXPECT_EQ(found.features.scalar_type(), torch::kFloat64);
    EXPECT_TRUE(torch::allclose(found.probabilities.sum(1), torch::ones({5})));
}

TEST(Classifier, ClassifiesNoImagesAtAll) {
    EXPECT_EQ(Classifier::pretrained().classify(torch::empty({0, 1, 28, 28})).features.sizes(),
              (torch::IntArrayRef{0, 64}));
}

TEST(Classifier, RefusesImagesOfAnotherSize) {
    const auto error = error_of([] { Classifier::pretrained().classify(torch::zeros({2, 3, 32, 32})); });
    expect_contains(error, "mnist-fid-v1 takes images of 1x28x28 only");
    expect_contains(error, "these are 3x32x32");
}

TEST(Classifier, IsSmallAndReadsAtLeast993InAThousandAsItStates) {
    const auto classifier = Classifier::pretrained();
    size_t bytes = 0;
    for (const auto& tensor : classifier.parameters()) bytes += tensor.nbytes();
    EXPECT_LT(bytes, 390'000u);
    EXPECT_GE(classifier.test_accuracy(), 0.993);
}

TEST(Classifier, UntrainedIsAFunctionOfTheSeed) {
    const auto weight = [](uint64_t seed) { return Classifier::untrained(seed).parameters().front(); };
    EXPECT_TRUE(torch::equal(weight(1), weight(1)));
    EXPECT_FALSE(torch::equal(weight(1), weight(2)));
}

class OnMnist : public testing::Test {
protected:
    void SetUp() override {
        if (!std::getenv("DIFFUSE_MNIST"))
            GTEST_SKIP() << "set DIFFUSE_MNIST to the folder of the four files to run this";
        test = load_dataset({}, Split::kTest);
    }
    torch::Tensor features(const torch::Tensor& images) const { return classifier.classify(images).features; }
    Classifier classifier = Classifier::pretrained();
    Dataset test;
};

TEST_F(OnMnist, TheClassifierIsRightAboutAsManyTestImagesAsItStates) {
    const auto digits = classifier.classify(to_signed(test.examples)).probabilities.argmax(1);
    const double accuracy = digits.eq(test.condition.classes).to(torch::kFloat64).mean().item<double>();
    EXPECT_GE(accuracy, 0.993);
    EXPECT_NEAR(accuracy, classifier.test_accuracy(), 0.00025);  // some images are close calls, decided by rounding
}

// Every other image, as the second half of the test set was written by other people than the first.
TEST_F(OnMnist, TheDistanceIsSmallForOtherDigitsAndGrowsWithDamage) {
    const auto x = to_signed(test.examples.slice(0, 0, 4000, 2)),
               others = to_signed(test.examples.slice(0, 1, 4000, 2));
    const Gaussian reference = fit_gaussian(features(others));
    const auto noise = normal(x.sizes(), {.seed = 1});
    double before = frechet_distance(fit_gaussian(features(x)), reference);
    EXPECT_LT(before, 5);
    for (const double sigma : {0.2, 0.4, 0.8}) {
        const double distance = frechet_distance(fit_gaussian(features((x + sigma * noise).clamp(-1, 1))), reference);
        EXPECT_GT(distance, 2 * before) << sigma;
        before = distance;
    }
}

}  // namespace
}  // namespace diffuse
