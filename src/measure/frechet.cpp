#include "diffuse/measure/frechet.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "diffuse/base/error.hpp"

namespace diffuse {
namespace {

/// The symmetric square root of a symmetric, positive semidefinite matrix. Eigenvalues below zero are rounding errors
/// of some that are zero, or of tiny ones.
torch::Tensor square_root(const torch::Tensor& matrix) {
    const auto [values, vectors] = torch::linalg_eigh(matrix);
    return (vectors * values.clamp_min(0).sqrt()).matmul(vectors.t());
}

/// The distance to a distribution of which the covariance's root is known: for the jackknife, which needs twenty, by
/// eigenvalues alone. Exact to about 1e-8 of the traces.
double distance_by_root(const Gaussian& a, const Gaussian& b, const torch::Tensor& root_of_b) {
    const auto product = root_of_b.matmul(a.covariance).matmul(root_of_b);
    const auto roots = torch::linalg_eigvalsh(product).clamp_min(0).sqrt();
    const auto spread = a.covariance.trace() + b.covariance.trace() - 2 * roots.sum();
    return ((a.mean - b.mean).square().sum() + spread).item<double>();
}

void require_finite(const Gaussian& g) {
    if (g.mean.isfinite().all().item<bool>() && g.covariance.isfinite().all().item<bool>()) return;
    throw Error("a mean or covariance of features is not finite, so there is no distance to it");
}

}  // namespace

Gaussian fit_gaussian(const torch::Tensor& features) {
    const int64_t count = features.size(0);
    if (count < 2) throw Error(fmt::format("a covariance needs two images or more; there are {}", count));
    const int64_t bad = count - features.isfinite().all(1).sum().item<int64_t>();
    if (bad > 0)
        throw Error(fmt::format("the features of {} of {} images are not finite; leave these out", bad, count));
    const auto x = features.to(torch::kFloat64), mean = x.mean(0), centred = x - mean;
    return {mean, centred.t().matmul(centred) / double(count - 1)};
}

double frechet_distance(const Gaussian& a, const Gaussian& b) {
    require_finite(a);
    require_finite(b);
    // With M = C1^1/2 C2^1/2, the trace of (M M^T)^1/2 is the sum of M's singular values: taking them from M itself
    // loses no digits to squaring.
    const auto product = square_root(a.covariance).matmul(square_root(b.covariance));
    const auto spread = a.covariance.trace() + b.covariance.trace() - 2 * torch::linalg_svdvals(product).sum();
    const auto distance = (a.mean - b.mean).square().sum() + spread;
    return std::max(0.0, distance.item<double>());
}

Estimate frechet_estimate(const torch::Tensor& features, const Gaussian& reference) {
    const double distance = frechet_distance(fit_gaussian(features), reference);
    const auto root = square_root(reference.covariance);
    const auto without_some = [&](const torch::Tensor& left) {
        return distance_by_root(fit_gaussian(features.index_select(0, left)), reference, root);
    };
    return {distance, jackknife_error(features.size(0), without_some)};
}

}  // namespace diffuse
