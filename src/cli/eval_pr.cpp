#include <fmt/format.h>

#include <algorithm>

#include "cli/common.hpp"
#include "cli/eval.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/measure/precision_recall.hpp"
#include "diffuse/nets/classifier.hpp"

namespace diffuse::cli {
namespace {

/// The features of images of bytes: float64 [N, 64].
torch::Tensor features_of(const Classifier& classifier, const torch::Tensor& bytes) {
    const int64_t count = bytes.size(0), at_once = 1024;
    auto features = torch::empty({count, 64}, torch::kFloat64);
    Progress progress("features: image", count);
    for (int64_t first = 0; first < count; first += at_once) {
        const int64_t size = std::min(at_once, count - first);
        const auto some = to_signed(bytes.narrow(0, first, size));
        features.narrow(0, first, size).copy_(classifier.classify(some).features);
        progress.update(first + size);
    }
    return features;
}

/// What samples are held against, the images of both splits, and what real training images in their place have.
struct PrReference {
    Classifier classifier = Classifier::pretrained();
    torch::Tensor train, test;     ///< features
    torch::Tensor test_distances;  ///< of each test image to its nearest training image
    Report report;                 ///< without rows

    PrReference(const Checkpoint& checkpoint, const DatasetOptions& data, int64_t count) {
        const Dataset train_set = load_dataset(data, Split::kTrain);
        const auto some = features_of(classifier, some_training_examples(checkpoint, train_set, count).examples);
        test = features_of(classifier, load_dataset(data, Split::kTest).examples);
        const auto real = precision_and_recall(test, some, kNeighbours);
        train = features_of(classifier, train_set.examples);
        test_distances = nearest_distances(test, train);
        report.head["metric"] = fmt::format(
            "precision, recall and distance to the nearest training image in the features of {}, a classifier of "
            "MNIST (accuracy {:.2f}%)",
            kClassifierName, 100 * classifier.test_accuracy());
        report.head["samples"] = count;
        report.head["k"] = kNeighbours;
        report.head["precision_real"] = real.precision;
        report.head["recall_real"] = real.recall;
        report.head["real_is"] =
            fmt::format("{} random training images against the {} test images", some.size(0), test.size(0));
        report.head["nearest_train_test"] = test_distances.median().item<double>();
    }
};

}  // namespace

Report report_pr(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device) {
    require_digits(checkpoint, "pr");
    const auto all = combinations(options, checkpoint, Direction::kSampling);
    auto reference = PrReference(checkpoint, data_of(checkpoint, options.data), options.num.value_or(kDefaultSamples));
    add_samples(reference.report, all, options, checkpoint, device, [&](const TimedSamples& drawn, const Condition&) {
        const auto generated = features_of(reference.classifier, to_bytes(drawn.x));
        const auto [precision, recall] = precision_and_recall(reference.test, generated, kNeighbours);
        const auto distances = nearest_distances(generated, reference.train);
        Json row;
        row["precision"] = precision;
        row["recall"] = recall;
        row["nearest_train"] = distances.median().item<double>();
        row["copies"] = copied_share(distances, reference.test_distances);
        row["seconds"] = drawn.seconds;
        return std::vector<Json>{row};
    });
    return reference.report;
}

}  // namespace diffuse::cli
