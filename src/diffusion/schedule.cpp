#include "diffuse/diffusion/schedule.hpp"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

constexpr double kMaxBeta = 0.999;
constexpr double kMinAlpha = 5e-5;  // of a picture in pure noise

/// Values at equal distances from `first` to `last`.
std::vector<double> linspace(double first, double last, int64_t count) {
    std::vector<double> values;
    for (int64_t k = 0; k < count; ++k) {
        values.push_back(first + (count > 1 ? double(k) / double(count - 1) : 0) * (last - first));
    }
    return values;
}

/// The betas of T steps that take the same way as these 1000: step t keeps as much of the signal as steps
/// 1000 (t - 1) / T to 1000 t / T do, of which a part of a step keeps (1 - beta)^part.
std::vector<double> resampled(const std::vector<double>& betas, int64_t steps) {
    const double ratio = double(betas.size()) / double(steps);
    std::vector<double> result;
    for (int64_t t = 1; t <= steps; ++t) {
        const double begin = ratio * double(t - 1), end = ratio * double(t);
        double kept = 1;
        for (size_t k = size_t(begin); k < betas.size() && double(k) < end; ++k) {
            const double part = std::min(end, double(k + 1)) - std::max(begin, double(k));
            kept *= std::pow(1 - betas[k], part);
        }
        result.push_back(1 - kept);
    }
    return result;
}

std::vector<double> linear_betas(int64_t steps) { return resampled(linspace(1e-4, 0.02, 1000), steps); }

std::vector<double> scaled_linear_betas(int64_t steps) {
    auto betas = linspace(std::sqrt(0.00085), std::sqrt(0.012), 1000);
    for (double& beta : betas) beta = beta * beta;
    return resampled(betas, steps);
}

/// The betas of a given alpha-bar, a function of t / T that starts at 1.
template <class AlphaBar>
std::vector<double> betas_of(int64_t steps, const AlphaBar& alpha_bar) {
    std::vector<double> betas;
    for (int64_t t = 1; t <= steps; ++t) {
        const double ratio = alpha_bar(double(t) / double(steps)) / alpha_bar(double(t - 1) / double(steps));
        betas.push_back(std::min(1 - ratio, kMaxBeta));
    }
    return betas;
}

std::vector<double> cosine_betas(int64_t steps) {
    return betas_of(steps, [](double u) { return std::pow(std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2), 2); });
}

std::vector<double> sigmoid_betas(int64_t steps) {
    const auto sigmoid = [](double u) { return 1 / (1 + std::exp(-u)); };
    return betas_of(steps, [&](double u) { return (sigmoid(3 - 6 * u) - sigmoid(-3)) / (sigmoid(3) - sigmoid(-3)); });
}

std::vector<double> polynomial_betas(int64_t steps) {
    return betas_of(steps, [](double u) { return std::pow(1 - u * u, 2); });
}

/// Lin et al. 2024, algorithm 1: shifts and stretches alpha so that it ends at kMinAlpha and begins as before.
std::vector<double> to_pure_noise(const std::vector<double>& betas) {
    std::vector<double> alphas = {std::sqrt(1 - betas.front())};
    for (size_t t = 1; t < betas.size(); ++t) alphas.push_back(alphas.back() * std::sqrt(1 - betas[t]));
    const double first = alphas.front(), last = alphas.back();
    std::vector<double> stretched;
    double before = 1;
    for (const double alpha : alphas) {
        const double share = first > last ? (alpha - last) / (first - last) : 0;
        const double now = kMinAlpha + share * (first - kMinAlpha);
        stretched.push_back(1 - std::pow(now / before, 2));
        before = now;
    }
    return stretched;
}

using Betas = std::vector<double> (*)(int64_t steps);
const Table<Betas>& schedules() {
    static const Table<Betas> table = {{"linear", linear_betas},
                                       {"scaled-linear", scaled_linear_betas},
                                       {"cosine", cosine_betas},
                                       {"sigmoid", sigmoid_betas},
                                       {"polynomial", polynomial_betas}};
    return table;
}

}  // namespace

std::vector<std::string> schedule_names() { return names(schedules()); }

Fields fields(ScheduleOptions& options) {
    return {{"kind", Choice{&options.kind, schedule_names()}, "noise schedule"},
            {"steps", Number<int64_t>{&options.steps, 1, 100'000}, "T, the number of trained noise levels"},
            {"zero_terminal_snr", &options.zero_terminal_snr,
             "schedule rescaled to end in pure noise (needs prediction v or x0, weighting v)"}};
}

Schedule::Schedule(const std::vector<double>& betas, bool zero_terminal_snr)
    : levels_{NoiseLevel{}}, zero_terminal_snr_(zero_terminal_snr) {
    double alpha_bar = 1;
    for (const double beta : betas) {
        alpha_bar *= 1 - beta;
        levels_.push_back({std::sqrt(alpha_bar), std::sqrt(1 - alpha_bar), double(levels_.size())});
    }
}

NoiseLevel Schedule::at(double t) const {
    TORCH_INTERNAL_ASSERT(t == 0 || (t >= 1 && t <= double(steps())), "no noise level at t = ", t);
    const double whole = std::floor(t), fraction = t - whole;
    const NoiseLevel& below = levels_[size_t(whole)];
    if (fraction == 0) return below;
    const NoiseLevel& above = levels_[size_t(whole) + 1];
    return level_of_log_snr((1 - fraction) * below.log_snr() + fraction * above.log_snr(), t);
}

double Schedule::time_at(double log_snr) const {
    const auto above = std::partition_point(levels_.begin() + 1, levels_.end(),
                                            [&](const NoiseLevel& level) { return level.log_snr() >= log_snr; });
    if (above == levels_.begin() + 1) return 1;
    if (above == levels_.end()) return double(steps());
    const NoiseLevel& below = above[-1];
    return below.t + (below.log_snr() - log_snr) / (below.log_snr() - above->log_snr());
}

Schedule make_schedule(const ScheduleOptions& options) {
    const auto betas = look_up("schedule", schedules(), options.kind)(options.steps);
    return Schedule(options.zero_terminal_snr ? to_pure_noise(betas) : betas, options.zero_terminal_snr);
}

}  // namespace diffuse
