#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/measure/frechet.hpp"
#include "diffuse/measure/precision_recall.hpp"
#include "measure/measures.hpp"

namespace diffuse {
namespace {

constexpr int64_t kMaxFeatures = 4096;  // the covariances' roots take minutes beyond

/// "features" of a file, or its "images" pixel by pixel, or its only tensor: float64 [N, F].
torch::Tensor read_features(const std::string& path) {
    const TensorFile file = read_tensor_file(path);
    const bool one = file.tensors.size() == 1;
    const auto name = file.tensors.contains("features") ? "features"
                      : one                             ? file.tensors.begin()->first
                                                        : std::string("images");
    const auto tensor = file.at(name, path).to(torch::kFloat64);
    if (tensor.dim() < 2 || tensor.size(0) <= kNeighbours) {
        throw Error(fmt::format("{}: '{}' is [{}]; expected more than {} rows of features, or of images", path, name,
                                fmt::join(tensor.sizes(), ", "), kNeighbours));
    }
    if (!tensor.isfinite().all().item<bool>()) throw Error(fmt::format("{}: '{}' is not all finite", path, name));
    const auto features = tensor.flatten(1);
    if (features.size(1) > kMaxFeatures) {
        throw Error(
            fmt::format("{}: {} features each; at most {} can be compared", path, features.size(1), kMaxFeatures));
    }
    if (tensor.dim() > 2)
        log::info(fmt::format("{}: images, whose {} pixels are taken as features", path, features.size(1)));
    return features;
}

/// With its error, where that takes no half an hour.
Estimate distance_of(const torch::Tensor& features, const Gaussian& reference) {
    constexpr int64_t kMaxWithError = 2048;
    if (features.size(1) <= kMaxWithError) return frechet_estimate(features, reference);
    return {frechet_distance(fit_gaussian(features), reference), std::nan("")};
}

Report report_features(const Model&, const MeasureOptions& options) {
    if (options.features.empty() || options.reference.empty()) {
        throw Error("features compares two files: say both features and reference");
    }
    const auto features = read_features(options.features), reference = read_features(options.reference);
    if (features.size(1) != reference.size(1)) {
        throw Error(fmt::format("{} has {} features each, {} has {}; they are not of one kind", options.features,
                                features.size(1), options.reference, reference.size(1)));
    }
    const auto [precision, recall] = precision_and_recall(reference, features, kNeighbours);
    Report report{
        .head = {{"metric", "Frechet distance, precision and recall of features from anywhere"},
                 {"k", kNeighbours},
                 {"errors",
                  "one standard error, beside the same other file: jackknife over 20 groups (frechet), binomial, of as "
                  "many as there are features (precision, recall)"}}};
    Json row = {{"samples", features.size(0)}, {"reference", reference.size(0)}, {"features", features.size(1)}};
    put(row, "frechet", distance_of(features, fit_gaussian(reference)));
    put(row, "precision", precision);
    put(row, "recall", recall);
    report.rows.push_back(row);
    return report;
}

}  // namespace

Measure features_measure() {
    return {.about = "Frechet distance, precision and recall of features from files",
            .run = report_features,
            .options = {"features", "reference"},
            .of_model = false};
}

}  // namespace diffuse
