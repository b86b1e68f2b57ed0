#pragma once

namespace diffuse {

/// How much of an example is left: x_t = alpha x_0 + sigma eps. t is where a schedule has this level, for printing; no
/// denoiser reads it, and a level that is on no schedule's list has none (NaN).
struct NoiseLevel {
    double alpha = 1, sigma = 0, t = 0;             ///< at first data, exactly
    double ratio() const { return sigma / alpha; }  ///< r: the "time" in which the probability-flow ODE is dy/dr = eps
    double log_snr() const;                         ///< 2 log(alpha / sigma); infinite for data
};

/// The variance-preserving level, alpha^2 + sigma^2 = 1, of a log-SNR: alpha^2 = sigmoid(log_snr).
NoiseLevel level_of_log_snr(double log_snr, double t);

/// The one of a ratio sigma / alpha, on no schedule's list.
NoiseLevel level_of_ratio(double ratio);

}  // namespace diffuse
