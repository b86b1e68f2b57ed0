#pragma once

#include "diffuse/base/torch.hpp"
#include "diffuse/measure/estimate.hpp"

namespace diffuse {

/// A normal distribution in F dimensions.
struct Gaussian {
    torch::Tensor mean;        ///< float64 [F]
    torch::Tensor covariance;  ///< float64 [F, F], symmetric
};

/// Mean and unbiased covariance of N samples. features: [N, F]. Throws Error for fewer than two and for
/// features that are not finite.
Gaussian fit_gaussian(const torch::Tensor& features);

/// The squared Fréchet (Wasserstein-2) distance of two normal distributions,
/// |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2) (Dowson & Landau 1982, eq. 16), which is what "FID" is in the
/// features of the Inception network (Heusel et al. 2017, arXiv:1706.08500, eq. 6). Never negative; exact to about
/// 1e-8 of the covariances' traces even where they are singular, as those of fewer than F + 1 samples are.
/// Throws Error where a mean or covariance is not finite.
double frechet_distance(const Gaussian& a, const Gaussian& b);

/// The distance of samples, [N, F], to a distribution that is held fixed, with its error by the jackknife over the
/// samples (`jackknife_error`). The distance itself is too large by what N samples always have: F / N +
/// F (F + 1) / (4 N) to first order where they are of N(0, I) itself. Throws Error as above.
Estimate frechet_estimate(const torch::Tensor& features, const Gaussian& reference);

}  // namespace diffuse
