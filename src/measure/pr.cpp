#include <fmt/format.h>

#include <algorithm>

#include "diffuse/base/progress.hpp"
#include "diffuse/measure/precision_recall.hpp"
#include "measure/measures.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

/// The features of images of bytes: float64 [N, 64].
Tensor features_of(const Classifier& classifier, const Tensor& bytes) {
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

Report report_pr(const Model& model, const MeasureOptions& options) {
    require_digits(options, "pr");
    const RealImages real(model, options);
    const auto features = [&](const Tensor& bytes) { return features_of(real.classifier, bytes); };
    const Tensor some = features(real.some.examples), test = features(real.test.examples);
    const PrecisionRecall of_real = precision_and_recall(test, some, kNeighbours);
    const Tensor train = features(real.train.examples), test_distances = nearest_distances(test, train);
    Report report{
        .head = {{"metric", "precision, recall and distance to the nearest training image in " + real.features()},
                 {"samples", real.count},
                 {"k", kNeighbours}}};
    put(report.head, "precision_real", of_real.precision);
    put(report.head, "recall_real", of_real.recall);
    report.head["real_is"] = real.some_against_test();
    put(report.head, "nearest_train_test", median_estimate(test_distances));
    report.head["errors"] =
        "one standard error over draws of samples, beside the same test images: binomial, of as many as there are "
        "samples (shares), by order statistics (medians)";
    add_samples(report, model, options, real, [&](const TimedSamples& drawn, const Condition&) {
        const Tensor generated = features(to_bytes(drawn.x));
        const auto [precision, recall] = precision_and_recall(test, generated, kNeighbours);
        const Tensor distances = nearest_distances(generated, train);
        Json row;
        put(row, "precision", precision);
        put(row, "recall", recall);
        put(row, "nearest_train", median_estimate(distances));
        put(row, "copies", share_estimate(copied_share(distances, test_distances), generated.size(0)));
        row["seconds"] = drawn.seconds;
        return std::vector<Json>{row};
    });
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
