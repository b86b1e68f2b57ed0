#include "diffuse/diffusion/level.hpp"

#include <cmath>
#include <limits>

namespace diffuse {

double NoiseLevel::log_snr() const { return 2 * std::log(alpha / sigma); }

NoiseLevel level_of_log_snr(double log_snr, double t) {
    return {std::sqrt(1 / (1 + std::exp(-log_snr))), std::sqrt(1 / (1 + std::exp(log_snr))), t};
}

NoiseLevel level_of_ratio(double ratio) {
    return level_of_log_snr(-2 * std::log(ratio), std::numeric_limits<double>::quiet_NaN());
}

}  // namespace diffuse
