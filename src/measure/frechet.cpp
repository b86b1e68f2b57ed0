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

}  // namespace diffuse
