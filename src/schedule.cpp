#include "diffuse/schedule.hpp"

#include <c10/util/Exception.h>

#include <cmath>
#include <numbers>

#include "diffuse/error.hpp"

namespace diffuse {
namespace {

constexpr double kLargestBeta = 0.999;

std::vector<double> linear_betas(int64_t steps) {
    const double scale = 1000.0 / double(steps), first = scale * 1e-4, last = scale * 0.02;
    std::vector<double> betas;
    for (int64_t k = 0; k < steps; ++k) {
        const double fraction = steps > 1 ? double(k) / double(steps - 1) : 0;
        betas.push_back(std::min(first + fraction * (last - first), kLargestBeta));
    }
    return betas;
}

std::vector<double> cosine_betas(int64_t steps) {
    const auto f = [&](int64_t t) {
        const double angle = (double(t) / double(steps) + 0.008) / 1.008 * std::numbers::pi / 2;
        return std::cos(angle) * std::cos(angle);
    };
    std::vector<double> betas;
    for (int64_t t = 1; t <= steps; ++t) betas.push_back(std::min(1 - f(t) / f(t - 1), kLargestBeta));
    return betas;
}

using Betas = std::vector<double> (*)(int64_t steps);
const Table<Betas>& schedules() {
    static const Table<Betas> table = {{"linear", linear_betas}, {"cosine", cosine_betas}};
    return table;
}

/// The variance-preserving level with a given log-SNR: alpha^2 = sigmoid(log_snr).
NoiseLevel level_of(double t, double log_snr) {
    return {t, std::sqrt(1 / (1 + std::exp(-log_snr))), std::sqrt(1 / (1 + std::exp(log_snr)))};
}

}  // namespace

double NoiseLevel::log_snr() const { return 2 * std::log(alpha / sigma); }

Schedule::Schedule(const std::vector<double>& betas) : levels_{NoiseLevel{}} {
    double alpha_bar = 1;
    for (const double beta : betas) {
        alpha_bar *= 1 - beta;
        levels_.push_back({double(levels_.size()), std::sqrt(alpha_bar), std::sqrt(1 - alpha_bar)});
    }
}

NoiseLevel Schedule::at(double t) const {
    TORCH_INTERNAL_ASSERT(t == 0 || (t >= 1 && t <= double(steps())), "no noise level at t = ", t);
    const double whole = std::floor(t), fraction = t - whole;
    const NoiseLevel& below = levels_[size_t(whole)];
    if (fraction == 0) return below;
    const NoiseLevel& above = levels_[size_t(whole) + 1];
    return level_of(t, (1 - fraction) * below.log_snr() + fraction * above.log_snr());
}

Schedule make_schedule(const ScheduleConfig& config) {
    return Schedule(look_up("schedule", schedules(), config.kind)(config.steps));
}

std::vector<std::string> schedule_names() { return names(schedules()); }

}  // namespace diffuse
