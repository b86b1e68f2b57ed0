#pragma once

#include <cstdint>
#include <vector>

#include "diffuse/base/torch.hpp"
#include "diffuse/measure/estimate.hpp"

namespace diffuse {

/// Do two samples come from the same distribution? And are posteriors calibrated? All functions depend on their
/// arguments alone, whatever the number of threads, and throw Error for samples that are empty, not finite or of
/// different dimensions.

/// Classifier two-sample test (Lopez-Paz & Oquab 2017, arXiv:1610.06545, section 3; as sbibm defines it, Lueckmann et
/// al. 2021, arXiv:2101.04653): the accuracy on held-out points, averaged over 5 folds, of a network that tells x from
/// y. 0.5: it cannot tell them; 1: it always can. Below 0.5 by chance only, and near N / (N + M) where one sample is
/// the larger one, so compare equal numbers.
///
/// Every fold holds out as many of each sample, and of samples of one size the points of the same indices: otherwise
/// what is held out is what the rest has less of, and the mean for equal distributions is below 0.5 (0.476 of 20 points
/// each). Folds share training points, so the accuracy varies more than a binomial share; its error is
/// sqrt((1/5 + 1/4) s^2), s^2 the variance of the five accuracies (Nadeau & Bengio 2003, "Inference for the
/// generalization error", section 3: test points for training points 1 / 4).
///
/// x and y: float [N, D] and [M, D], 5 points or more of each. Both are z-scored by x's mean and standard deviation; a
/// coordinate in which x is constant is only centred. The network has two hidden layers of 10 D and ReLU. Adam trains
/// it, rate 1e-3, in batches of 200, with an L2 penalty of 1e-4, as scikit-learn's MLPClassifier does: until the loss
/// has not fallen by 1e-4 for more than 10 epochs in a row, or for `max_epochs`.
Estimate classifier_two_sample_test(const torch::Tensor& x, const torch::Tensor& y, uint64_t seed,
                                    int64_t max_epochs = 1000);

/// The energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely & Rizzo 2013, "Energy statistics", eq. 6.1), which
/// is zero for equal distributions only, and the test by it: the share of random relabellings of the points whose
/// distance is at least as large, (1 + that many) / (1 + permutations), is uniform where the distributions are the
/// same.
///
/// The means are over all pairs, a point with itself too, as in the paper: so the distance is never negative, and too
/// large by about (E|X - X'|) / N + (E|Y - Y'|) / M. Costs permutations x (N + M)^2 multiplications.
struct EnergyTest {
    double distance = 0, p_value = 1;
};
/// x and y: float [N, D] and [M, D].
EnergyTest energy_test(const torch::Tensor& x, const torch::Tensor& y, int64_t permutations, uint64_t seed);

/// Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788, theorem 1): the rank of a true parameter among
/// `draws` samples of its posterior is uniform over 0 .. draws where the posterior is right. Pearson's chi-square of
/// the histogram, with bins - 1 degrees of freedom; the p-value holds where a bin expects 5 ranks or more.
struct RankTest {
    std::vector<int64_t> counts;  ///< how many ranks fell into each bin
    double chi_square = 0, p_value = 1;
};
/// ranks: int64 [trials]. Throws Error for a rank that is not in 0 .. draws, and for a number of bins that does not
/// divide draws + 1, which would make them unequal.
RankTest rank_test(const torch::Tensor& ranks, int64_t draws, int64_t bins);

/// The probability that a chi-square variable of so many degrees of freedom is at least this large: Q(k / 2, chi^2 /
/// 2), the regularised upper incomplete gamma function.
double chi_square_p_value(double chi_square, int64_t degrees_of_freedom);

}  // namespace diffuse
