#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/data/numpy_file.hpp"
#include "diffuse/measure/frechet.hpp"
#include "diffuse/measure/precision_recall.hpp"
#include "measure/measures.hpp"

namespace diffuse {
namespace {

constexpr int64_t kMaxFeatures = 4096;  // the covariances' roots take minutes beyond

using Arrays = std::map<std::string, torch::Tensor>;

/// Of a safetensors file, or of one of NumPy.
Arrays read_arrays(const std::string& path) {
    return is_numpy(read_beginning(path, 8)) ? read_numpy(path) : read_tensor_file(path).tensors;
}

/// What a file says of a set of images: features of each, float64 [N, F], or only the mean and covariance of those.
struct Features {
    torch::Tensor rows = {};  ///< not defined where only the others are known
    Gaussian gaussian = {};
    int64_t count() const { return gaussian.mean.size(0); }
};

void require_finite(const torch::Tensor& tensor, const std::string& path, const std::string& name) {
    if (!tensor.isfinite().all().item<bool>()) throw Error(fmt::format("{}: '{}' is not all finite", path, name));
}

void require_few(int64_t features, const std::string& path) {
    if (features <= kMaxFeatures) return;
    throw Error(fmt::format("{}: {} features each; at most {} can be compared", path, features, kMaxFeatures));
}

/// "mu" and "sigma", as pytorch-fid stores them.
Features features_of_moments(const Arrays& arrays, const std::string& path) {
    const auto mean = arrays.at("mu").to(torch::kFloat64), covariance = arrays.at("sigma").to(torch::kFloat64);
    const bool fits =
        mean.dim() == 1 && mean.size(0) > 0 && covariance.sizes() == torch::IntArrayRef({mean.size(0), mean.size(0)});
    if (!fits) {
        throw Error(fmt::format("{}: 'mu' is [{}] and 'sigma' [{}]; expected [F] and [F, F]", path,
                                fmt::join(mean.sizes(), ", "), fmt::join(covariance.sizes(), ", ")));
    }
    require_few(mean.size(0), path);
    require_finite(mean, path, "mu");
    require_finite(covariance, path, "sigma");
    if (!covariance.allclose(covariance.t())) throw Error(fmt::format("{}: 'sigma' is not symmetric", path));
    const auto variances = torch::linalg_eigvalsh(covariance);
    // What float32 loses of a covariance leaves eigenvalues a little below zero.
    if ((variances.min() < -1e-4 * variances.abs().max()).item<bool>()) {
        throw Error(fmt::format("{}: 'sigma' is no covariance: it has the eigenvalue {:.3g}", path,
                                variances.min().item<double>()));
    }
    return {.gaussian = {mean, (covariance + covariance.t()) / 2}};
}

/// The array of features: called so, or the images pixel by pixel, or the only one.
std::pair<std::string, torch::Tensor> array_of_features(const Arrays& arrays, const std::string& path) {
    if (arrays.size() == 1)
        return {arrays.begin()->first.empty() ? "the array" : arrays.begin()->first, arrays.begin()->second};
    for (const std::string name : {"features", "images"}) {
        if (arrays.contains(name)) return {name, arrays.at(name)};
    }
    std::vector<std::string> names;
    for (const auto& [name, array] : arrays) names.push_back(name);
    throw Error(fmt::format("{}: it has none of 'features', 'images', or 'mu' and 'sigma'; it has: {}", path,
                            fmt::join(names, ", ")));
}

Features read_features(const std::string& path) {
    const Arrays arrays = read_arrays(path);
    if (arrays.contains("mu") && arrays.contains("sigma")) return features_of_moments(arrays, path);
    const auto [name, array] = array_of_features(arrays, path);
    if (array.dim() < 2 || array.size(0) <= kNeighbours) {
        throw Error(fmt::format("{}: '{}' is [{}]; expected more than {} rows of features, or of images", path, name,
                                fmt::join(array.sizes(), ", "), kNeighbours));
    }
    const auto rows = array.to(torch::kFloat64).flatten(1);
    require_finite(rows, path, name);
    require_few(rows.size(1), path);
    if (array.dim() > 2) {
        log::info(fmt::format("{}: images, whose {} pixels are taken as features", path, rows.size(1)));
    }
    return {rows, fit_gaussian(rows)};
}

Json count_or_none(const Features& features) {
    return features.rows.defined() ? Json(features.rows.size(0)) : Json("-");
}

/// With its error, where the single features are known and that takes no half an hour.
Estimate distance_of(const Features& features, const Gaussian& reference) {
    constexpr int64_t kMaxWithError = 2048;
    if (features.rows.defined() && features.count() <= kMaxWithError) return frechet_estimate(features.rows, reference);
    return {frechet_distance(features.gaussian, reference), std::nan("")};
}

Report report_features(const Model&, const MeasureOptions& options) {
    if (options.features.empty() || options.reference.empty()) {
        throw Error("features compares two files: say both features and reference");
    }
    const auto features = read_features(options.features), reference = read_features(options.reference);
    if (features.count() != reference.count()) {
        throw Error(fmt::format("{} has {} features each, {} has {}; they are not of one kind", options.features,
                                features.count(), options.reference, reference.count()));
    }
    Report report{
        .head = {{"metric", "Frechet distance, precision and recall of features from anywhere"},
                 {"k", kNeighbours},
                 {"errors",
                  "one standard error, beside the same other file: jackknife over 20 groups (frechet), binomial, of as "
                  "many as there are features (precision, recall)"}}};
    Json row = {
        {"samples", count_or_none(features)}, {"reference", count_or_none(reference)}, {"features", features.count()}};
    put(row, "frechet", distance_of(features, reference.gaussian));
    if (features.rows.defined() && reference.rows.defined()) {  // they are not known of means and covariances
        const auto [precision, recall] = precision_and_recall(reference.rows, features.rows, kNeighbours);
        put(row, "precision", precision);
        put(row, "recall", recall);
    }
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
