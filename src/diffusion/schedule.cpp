#include "diffuse/diffusion/schedule.hpp"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "diffuse/base/error.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

constexpr double kMaxBeta = 0.999;
constexpr double kMinAlpha = 5e-5;  // of an image in pure noise

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

/// beta from 1e-4 to 0.02 for T = 1000 (Ho et al. 2020, section 4); level t of another T is level 1000 t / T of these.
std::vector<double> linear_betas(int64_t steps) { return resampled(linspace(1e-4, 0.02, 1000), steps); }

/// Likewise, with sqrt(beta) linear from sqrt(0.00085) to sqrt(0.012) (Rombach et al. 2022, arXiv:2112.10752, their
/// code).
std::vector<double> scaled_linear_betas(int64_t steps) {
    auto betas = linspace(std::sqrt(0.00085), std::sqrt(0.012), 1000);
    for (double& beta : betas) beta = beta * beta;
    return resampled(betas, steps);
}

/// The betas of a given alpha-bar, a function of t / T that starts at 1. They are clipped, so that it never reaches
/// zero.
template <class AlphaBar>
std::vector<double> betas_of(int64_t steps, const AlphaBar& alpha_bar) {
    std::vector<double> betas;
    for (int64_t t = 1; t <= steps; ++t) {
        const double ratio = alpha_bar(double(t) / double(steps)) / alpha_bar(double(t - 1) / double(steps));
        betas.push_back(std::min(1 - ratio, kMaxBeta));
    }
    return betas;
}

/// alpha-bar(t) = f(t) / f(0), f(t) = cos^2((t/T + 0.008) / 1.008 * pi/2) (Nichol & Dhariwal 2021, arXiv:2102.09672,
/// eq. 17).
std::vector<double> cosine_betas(int64_t steps) {
    return betas_of(steps, [](double u) { return std::pow(std::cos((u + 0.008) / 1.008 * std::numbers::pi / 2), 2); });
}

/// alpha-bar is sigmoid(-u), u from -3 to 3, stretched to end at 1 and 0 (Jabri et al. 2023, arXiv:2212.11972,
/// algorithm 3).
std::vector<double> sigmoid_betas(int64_t steps) {
    const auto sigmoid = [](double u) { return 1 / (1 + std::exp(-u)); };
    return betas_of(steps, [&](double u) { return (sigmoid(3 - 6 * u) - sigmoid(-3)) / (sigmoid(3) - sigmoid(-3)); });
}

/// alpha-bar(t) = (1 - (t/T)^2)^2 (Hoogeboom et al. 2022, arXiv:2203.17003, appendix B).
std::vector<double> polynomial_betas(int64_t steps) {
    return betas_of(steps, [](double u) { return std::pow(1 - u * u, 2); });
}

/// Lin et al. 2024, arXiv:2305.08891, algorithm 1: shifts and stretches alpha so that it ends at kMinAlpha and begins
/// as before.
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

// Continuous paths, with u = t / T.

constexpr double kBeta0 = 0.1, kBeta1 = 20;  // Song et al. 2021, arXiv:2011.13456, appendix C

double vp_beta(double u) { return kBeta0 + u * (kBeta1 - kBeta0); }
double vp_log_alpha(double u) { return -u * u * (kBeta1 - kBeta0) / 4 - u * kBeta0 / 2; }

/// g^2 = beta from 0.1 to 20, linear in u, and f = -beta / 2 (Song et al. 2021, appendices B and C).
Path vp(const ScheduleOptions&) {
    return {[](double u) {
                const double log_alpha = vp_log_alpha(u);
                return NoiseLevel{std::exp(log_alpha), std::sqrt(-std::expm1(2 * log_alpha))};
            },
            [](double u) {
                return Sde{-vp_beta(u) / 2, vp_beta(u)};
            }};
}

/// The same alpha, and sigma = 1 - alpha^2 (Song et al. 2021, appendix B).
Path sub_vp(const ScheduleOptions&) {
    return {[](double u) {
                const double log_alpha = vp_log_alpha(u);
                return NoiseLevel{std::exp(log_alpha), -std::expm1(2 * log_alpha)};
            },
            [](double u) {
                return Sde{-vp_beta(u) / 2, vp_beta(u) * -std::expm1(4 * vp_log_alpha(u))};
            }};
}

/// alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^u, from 0.01 to 50 (Song et al. 2021, appendix C).
Path ve(const ScheduleOptions& options) {
    const double low = options.sigma_min.value_or(0.01), high = options.sigma_max.value_or(50);
    const double growth = std::log(high / low);
    const auto sigma = [=](double u) { return low * std::exp(u * growth); };
    return {[=](double u) {
                return NoiseLevel{1, sigma(u)};
            },
            [=](double u) {
                return Sde{0, 2 * std::pow(sigma(u), 2) * growth};
            }};
}

/// alpha = 1, sigma^(1/7) linear in u from 0.002 to 80 (Karras et al. 2022, arXiv:2206.00364, eq. 5).
Path edm(const ScheduleOptions& options) {
    constexpr double kRho = 7;
    const double low = std::pow(options.sigma_min.value_or(0.002), 1 / kRho);
    const double rise = std::pow(options.sigma_max.value_or(80), 1 / kRho) - low;
    return {[=](double u) {
                return NoiseLevel{1, std::pow(low + u * rise, kRho)};
            },
            [=](double u) {
                return Sde{0, 2 * kRho * rise * std::pow(low + u * rise, 2 * kRho - 1)};
            }};
}

/// alpha = 1 - u, sigma = u (Lipman et al. 2023, arXiv:2210.02747, example II; Liu et al. 2023, arXiv:2209.03003).
Path flow(const ScheduleOptions&) {
    return {[](double u) { return NoiseLevel{1 - u, u}; }, [](double u) { return Sde{-1 / (1 - u), 2 * u / (1 - u)}; }};
}

/// alpha = cos(pi u / 2), sigma = sin(pi u / 2).
Path cosine_vp(const ScheduleOptions&) {
    constexpr double kQuarter = std::numbers::pi / 2;
    return {[](double u) {
                return NoiseLevel{u == 1 ? 0 : std::cos(kQuarter * u), std::sin(kQuarter * u)};
            },
            [](double u) {
                return Sde{-kQuarter * std::tan(kQuarter * u), 2 * kQuarter * std::tan(kQuarter * u)};
            }};
}

/// A schedule of steps or a path.
struct ScheduleKind {
    std::vector<double> (*betas)(int64_t steps) = nullptr;
    Path (*path)(const ScheduleOptions& options) = nullptr;
    bool has_ends = false;  ///< takes sigma_min and sigma_max
};
const Table<ScheduleKind>& schedules() {
    static const Table<ScheduleKind> table = {{"linear", {linear_betas}},
                                              {"scaled-linear", {scaled_linear_betas}},
                                              {"cosine", {cosine_betas}},
                                              {"sigmoid", {sigmoid_betas}},
                                              {"polynomial", {polynomial_betas}},
                                              {"vp", {nullptr, vp}},
                                              {"sub-vp", {nullptr, sub_vp}},
                                              {"ve", {nullptr, ve, /*has_ends=*/true}},
                                              {"edm", {nullptr, edm, /*has_ends=*/true}},
                                              {"flow", {nullptr, flow}},
                                              {"cosine-vp", {nullptr, cosine_vp}}};
    return table;
}

/// Throws Error for options that this kind takes no notice of.
void check(const ScheduleOptions& options, const ScheduleKind& kind) {
    if (options.zero_terminal_snr && kind.path) {
        throw Error(
            fmt::format("config: schedule.zero_terminal_snr is for schedules of steps; {} is a path in continuous "
                        "time",
                        options.kind));
    }
    if (options.sigma_min && options.sigma_max && *options.sigma_min >= *options.sigma_max) {
        throw Error(fmt::format("config: schedule.sigma_min {} is not below sigma_max {}", *options.sigma_min,
                                *options.sigma_max));
    }
}

std::vector<std::string> kinds_with_ends() {
    std::vector<std::string> found;
    for (const auto& [name, kind] : schedules()) {
        if (kind.has_ends) found.push_back(name);
    }
    return found;
}

}  // namespace

std::vector<std::string> schedule_names() { return names(schedules()); }

Fields fields(ScheduleOptions& options) {
    return {{"kind", Choice{&options.kind, schedule_names()}, "noise schedule"},
            {"steps", Number<int64_t>{&options.steps, 1, 100'000}, "T, the number of trained noise levels"},
            {"zero_terminal_snr", &options.zero_terminal_snr,
             "schedule rescaled to end in pure noise (needs weighting v, flow or edm; not of eps without the scaled "
             "input skip)"},
            {.key = "sigma_min",
             .value = Number<std::optional<double>>{&options.sigma_min, 1e-6, 1e6},
             .meaning = "smallest sigma of ve (0.01 if null) and edm (0.002)",
             .belongs = {"kind", kinds_with_ends()}},
            {.key = "sigma_max",
             .value = Number<std::optional<double>>{&options.sigma_max, 1e-6, 1e6},
             .meaning = "largest sigma of ve (50 if null) and edm (80)",
             .belongs = {"kind", kinds_with_ends()}}};
}

Schedule::Schedule(const std::vector<double>& betas, bool zero_terminal_snr) : zero_terminal_snr_(zero_terminal_snr) {
    std::vector<NoiseLevel> levels = {NoiseLevel{}};
    double alpha_bar = 1;
    for (const double beta : betas) {
        alpha_bar *= 1 - beta;
        levels.push_back({std::sqrt(alpha_bar), std::sqrt(1 - alpha_bar), double(levels.size())});
    }
    levels_ = std::make_shared<const std::vector<NoiseLevel>>(std::move(levels));
}

Schedule::Schedule(Path path, int64_t steps) : path_(std::make_shared<const Path>(std::move(path))) {
    std::vector<NoiseLevel> levels = {NoiseLevel{}};
    for (int64_t t = 1; t <= steps; ++t) levels.push_back(path_level(double(t), double(steps)));
    levels_ = std::make_shared<const std::vector<NoiseLevel>>(std::move(levels));
}

NoiseLevel Schedule::path_level(double t, double steps) const {
    NoiseLevel level = path_->level(t / steps);
    level.t = t;
    return level;
}

Sde Schedule::sde(double t) const {
    TORCH_INTERNAL_ASSERT(t > 0 && t <= double(steps()), "no process at t = ", t);
    const double count = double(steps());
    if (path_) {
        const Sde in_u = path_->sde(t / count);
        return {in_u.f / count, in_u.g2 / count};
    }
    // log-SNR is linear between whole times, and alpha^2 its sigmoid.
    const double above = std::clamp(std::ceil(t), std::min(2.0, count), count), below = std::max(1.0, above - 1);
    const double slope = above > below ? at(above).log_snr() - at(below).log_snr() : 0;
    const double sigma2 = std::pow(at(std::max(1.0, t)).sigma, 2);
    return {sigma2 * slope / 2, -sigma2 * slope};
}

NoiseLevel Schedule::at(double t) const {
    TORCH_INTERNAL_ASSERT(t == 0 || (t >= 1 && t <= double(steps())), "no noise level at t = ", t);
    const double whole = std::floor(t), fraction = t - whole;
    const NoiseLevel& below = (*levels_)[size_t(whole)];
    if (fraction == 0) return below;
    if (path_) return path_level(t, double(steps()));
    const NoiseLevel& above = (*levels_)[size_t(whole) + 1];
    return level_of_log_snr((1 - fraction) * below.log_snr() + fraction * above.log_snr(), t);
}

double Schedule::time_at(double log_snr) const {
    const auto above = std::partition_point(levels_->begin() + 1, levels_->end(),
                                            [&](const NoiseLevel& level) { return level.log_snr() >= log_snr; });
    if (above == levels_->begin() + 1) return 1;
    if (above == levels_->end()) return double(steps());
    if (path_) return path_time(above[-1].t, above->t, log_snr);
    const NoiseLevel& below = above[-1];
    return below.t + (below.log_snr() - log_snr) / (below.log_snr() - above->log_snr());
}

double Schedule::path_time(double below, double above, double log_snr) const {
    while (true) {
        const double middle = (below + above) / 2;
        if (middle <= below || middle >= above) return below;  // nothing is between them
        (path_level(middle, double(steps())).log_snr() >= log_snr ? below : above) = middle;
    }
}

Schedule make_schedule(const ScheduleOptions& options) {
    const ScheduleKind& kind = look_up("schedule", schedules(), options.kind);
    check(options, kind);
    if (kind.path) return Schedule(kind.path(options), options.steps);
    const auto betas = kind.betas(options.steps);
    return Schedule(options.zero_terminal_snr ? to_pure_noise(betas) : betas, options.zero_terminal_snr);
}

}  // namespace diffuse
