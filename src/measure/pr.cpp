#include <fmt/format.h>

#include <algorithm>

#include "diffuse/base/progress.hpp"
#include "diffuse/measure/precision_recall.hpp"
#include "diffuse/nets/classifier.hpp"
#include "measure/measures.hpp"

namespace diffuse {
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

    PrReference(const Model& model, const MeasureOptions& options) {
        const int64_t count = options.num.value_or(kDefaultSamples);
        const Dataset train_set = load_dataset(options.dataset, Split::kTrain);
        const auto some = features_of(classifier, some_training_examples(model, options, train_set, count).examples);
        test = features_of(classifier, load_dataset(options.dataset, Split::kTest).examples);
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

    Json row(const TimedSamples& drawn) const {
        const auto generated = features_of(classifier, to_bytes(drawn.x));
        const auto [precision, recall] = precision_and_recall(test, generated, kNeighbours);
        const auto distances = nearest_distances(generated, train);
        Json row;
        row["precision"] = precision;
        row["recall"] = recall;
        row["nearest_train"] = distances.median().item<double>();
        row["copies"] = copied_share(distances, test_distances);
        row["seconds"] = drawn.seconds;
        return row;
    }
};

Report report_pr(const Model& model, const MeasureOptions& options) {
    require_digits(options, "pr");
    const PrReference reference(model, options);
    Report report = reference.report;
    add_samples(report, model, options,
                [&](const TimedSamples& drawn, const Condition&) { return std::vector<Json>{reference.row(drawn)}; });
    return report;
}

}  // namespace

Measure pr_measure() {
    return {.about = "precision and recall of samples, and how near they are to training images",
            .run = report_pr,
            .options = image_keys({"plot"}),
            .plotted = {"precision", "recall"}};
}

}  // namespace diffuse
