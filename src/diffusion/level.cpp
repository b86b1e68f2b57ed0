#include "diffuse/diffusion/level.hpp"

#include <cmath>
#include <limits>

namespace diffuse {

double NoiseLevel::log_snr() const { return 2 * std::log(alpha / sigma); }

double scale_of(const NoiseLevel& level) {
    const double scale = std::hypot(level.alpha, level.sigma);
    return std::abs(scale - 1) < 1e-12 ? 1 : scale;  // rounding of levels that preserve variance
}

NoiseLevel normalised(const NoiseLevel& level) {
    const double scale = scale_of(level);
    return {level.alpha / scale, level.sigma / scale, level.t};
}

NoiseLevel level_of_log_snr(double log_snr, double t) {
    return {std::sqrt(1 / (1 + std::exp(-log_snr))), std::sqrt(1 / (1 + std::exp(log_snr))), t};
}

NoiseLevel level_of_ratio(double ratio) {
    return level_of_log_snr(-2 * std::log(ratio), std::numeric_limits<double>::quiet_NaN());
}

NoiseLevel level_of_ratio(double ratio, double alpha) {
    return {alpha, alpha * ratio, std::numeric_limits<double>::quiet_NaN()};
}

}  // namespace diffuse
