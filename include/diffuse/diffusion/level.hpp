#pragma once

namespace diffuse {

/// How much of an example is left: x_t = alpha x_0 + sigma eps. t is where a schedule has this level, for printing; no
/// denoiser reads it, and a level that is on no schedule's list has none (NaN).
struct NoiseLevel {
    double alpha = 1, sigma = 0, t = 0;             ///< at first data, exactly
    double ratio() const { return sigma / alpha; }  ///< r: the "time" in which the probability-flow ODE is dy/dr = eps
    double log_snr() const;                         ///< 2 log(alpha / sigma); infinite for data
};

/// sqrt(alpha^2 + sigma^2): the standard deviation of x_t for data of unit variance; 1 for variance-preserving levels.
double scale_of(const NoiseLevel& level);
/// The level over its scale, variance-preserving: the same ratio, of x / scale. Networks and likelihoods see these, so
/// that a network serves every path (Karras et al. 2022, arXiv:2206.00364, section 5).
NoiseLevel normalised(const NoiseLevel& level);

/// The variance-preserving level, alpha^2 + sigma^2 = 1, of a log-SNR: alpha^2 = sigmoid(log_snr).
NoiseLevel level_of_log_snr(double log_snr, double t);

/// The variance-preserving level of a ratio sigma / alpha, on no schedule's list; and the one with this alpha.
NoiseLevel level_of_ratio(double ratio);
NoiseLevel level_of_ratio(double ratio, double alpha);

}  // namespace diffuse
