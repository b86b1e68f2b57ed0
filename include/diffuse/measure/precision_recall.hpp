#pragma once

#include "diffuse/base/torch.hpp"
#include "diffuse/measure/estimate.hpp"

namespace diffuse {

/// Improved precision and recall (Kynkaanniemi et al. 2019, arXiv:1904.06991), and how near points are to others. A set
/// of points is a matrix of features, [N, F]. Distances are Euclidean, in float64 and from the differences themselves,
/// so that a point and its copy have distance 0. All functions throw Error for features that are not finite.

/// The k of the paper's figures.
constexpr int64_t kNeighbours = 3;

/// The distance of each point to the k-th nearest other one, NN_k of eq. 1: float64 [N]. Throws Error for fewer than
/// k + 1 points.
torch::Tensor manifold_radii(const torch::Tensor& features, int64_t k);

/// The share of points that lie within the radius of some point of the manifold (eq. 1), 0 to 1.
double covered_share(const torch::Tensor& points, const torch::Tensor& manifold, const torch::Tensor& radii);

/// Precision: the share of generated points in the manifold of the real ones. Recall: the share of real points in the
/// manifold of the generated ones (eq. 2). A manifold's size depends on how many points it is made of: compare only at
/// equal numbers. Throws Error for fewer than k + 1 of either.
///
/// Their errors are over draws of the generated points, the real ones held fixed: of precision the binomial one. The
/// real points that one generated point covers come and go together, so recall varies far more than a share of so many
/// real points: about as a share of so many generated ones, whose error it gets (where these are the fewer).
struct PrecisionRecall {
    Estimate precision, recall;
};
PrecisionRecall precision_and_recall(const torch::Tensor& real, const torch::Tensor& generated, int64_t k);

/// The distance of each point of `from` to the nearest of `to`: float64 [N].
torch::Tensor nearest_distances(const torch::Tensor& from, const torch::Tensor& to);

/// The share of generated images that are as near to a training image as the nearest 1% of the test images are: about
/// 0.01 where nothing is copied. Both arguments are distances to the nearest training image, [N].
double copied_share(const torch::Tensor& generated, const torch::Tensor& test);

}  // namespace diffuse
