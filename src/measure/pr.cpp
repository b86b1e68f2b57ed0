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
                 {"k", kNeighbours},
                 {"precision_real", of_real.precision},
                 {"recall_real", of_real.recall},
                 {"real_is", real.some_against_test()},
                 {"nearest_train_test", test_distances.median().item<double>()}}};
    add_samples(report, model, options, [&](const TimedSamples& drawn, const Condition&) {
        const Tensor generated = features(to_bytes(drawn.x));
        const auto [precision, recall] = precision_and_recall(test, generated, kNeighbours);
        const Tensor distances = nearest_distances(generated, train);
        const Json row = {{"precision", precision},
                          {"recall", recall},
                          {"nearest_train", distances.median().item<double>()},
                          {"copies", copied_share(distances, test_distances)},
                          {"seconds", drawn.seconds}};
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
