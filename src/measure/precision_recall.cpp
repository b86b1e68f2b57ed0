#include "diffuse/measure/precision_recall.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "diffuse/base/error.hpp"
#include "diffuse/base/progress.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int64_t kDistancesAtOnce = int64_t(1) << 22;  // 32 MB
constexpr int64_t kFromDifferences = 2;  // cdist's mode: |a|^2 + |b|^2 - 2 ab would lose the digits of near points

Tensor finite_points(const Tensor& features) {
    const int64_t count = features.size(0), bad = count - features.isfinite().all(1).sum().item<int64_t>();
    if (bad > 0)
        throw Error(fmt::format("the features of {} of {} images are not finite; leave these out", bad, count));
    return features.to(torch::kFloat64);
}

/// What `reduce` makes of each point's distances to all of `to`: [n, M] -> [n], for as many points as fit at once.
Tensor over_distances(const Tensor& from, const Tensor& to, const std::function<Tensor(const Tensor&)>& reduce) {
    const auto points = finite_points(from), others = finite_points(to);
    const int64_t count = points.size(0), at_once = std::max<int64_t>(1, kDistancesAtOnce / others.size(0));
    // Not a list of results: each would lie where distances were, and leave no room there for the next ones.
    auto result = torch::empty({count}, torch::kFloat64);
    Progress progress("distances: point", count);
    for (int64_t first = 0; first < count; first += at_once) {
        const int64_t size = std::min(at_once, count - first);
        const auto distances = torch::cdist(points.narrow(0, first, size), others, /*p=*/2, kFromDifferences);
        result.narrow(0, first, size).copy_(reduce(distances));
        progress.update(first + size);
    }
    return result;
}

}  // namespace

Tensor manifold_radii(const Tensor& features, int64_t k) {
    if (features.size(0) <= k) {
        throw Error(fmt::format("the {} nearest neighbours of an image need {} images or more; there are {}", k, k + 1,
                                features.size(0)));
    }
    // A point's least distance, 0, is that to itself.
    return over_distances(features, features, [&](const Tensor& distances) {
        return std::get<0>(distances.topk(k + 1, /*dim=*/1, /*largest=*/false)).amax(1);
    });
}

double covered_share(const Tensor& points, const Tensor& manifold, const Tensor& radii) {
    const auto is_covered = [&](const Tensor& distances) { return (distances <= radii).any(1); };
    return over_distances(points, manifold, is_covered).mean().item<double>();
}

PrecisionRecall precision_and_recall(const Tensor& real, const Tensor& generated, int64_t k) {
    const int64_t count = generated.size(0), fewer = std::min(count, real.size(0));
    return {share_estimate(covered_share(generated, real, manifold_radii(real, k)), count),
            share_estimate(covered_share(real, generated, manifold_radii(generated, k)), fewer)};
}

Tensor nearest_distances(const Tensor& from, const Tensor& to) {
    return over_distances(from, to, [](const Tensor& distances) { return distances.amin(1); });
}

double copied_share(const Tensor& generated, const Tensor& test) {
    return (generated <= torch::quantile(test, 0.01)).to(torch::kFloat64).mean().item<double>();
}

}  // namespace diffuse
