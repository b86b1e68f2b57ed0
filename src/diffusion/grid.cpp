#include "diffuse/diffusion/grid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

constexpr double kKarrasRho = 7;
constexpr double kModerateRatio = 200, kDefaultMaxRatio = 80;
constexpr double kMaxFactor = 1.1;

/// Integer times start * time_left(fraction of the steps left, 1 to 0).
Grid at_integer_times(const Schedule& schedule, int64_t start, int64_t steps, double (*time_left)(double fraction)) {
    Grid grid;
    for (int64_t left = steps; left >= 0; --left) {
        const double t = std::round(double(start) * time_left(double(left) / double(steps)));
        grid.push_back(schedule.at(std::max(t, double(left))));  // close to the data, rounding must not merge levels
    }
    return grid;
}

/// A function of log r at whose equal distances levels lie, and the way back.
struct Scale {
    double (*to)(double log_r);
    double (*from)(double value);
};
const Scale kLogarithmic = {[](double log_r) { return log_r; }, [](double value) { return value; }};
const Scale kKarras = {[](double log_r) { return std::exp(log_r / kKarrasRho); },
                       [](double value) { return kKarrasRho * std::log(value); }};

Grid then(Grid grid, const Grid& more) {
    grid.insert(grid.end(), more.begin(), more.end());
    return grid;
}

/// `count` levels at equal distances from the first to the last. Pure noise is a level of its own, from which no
/// distances are measured: most of them would lie where there is nothing to see.
Grid spaced_in(const Scale& scale, const Schedule& schedule, const NoiseLevel& first, const NoiseLevel& last,
               int64_t count) {
    if (first.ratio() > kModerateRatio && count > 1) {
        const NoiseLevel second = schedule.at(double(grid_start(schedule, kDefaultMaxRatio)));
        return then({first}, spaced_in(scale, schedule, second, last, count - 1));
    }
    const double first_value = scale.to(std::log(first.ratio())), last_value = scale.to(std::log(last.ratio()));
    Grid grid = {first};
    for (int64_t i = 1; i + 1 < count; ++i) {
        const double value = first_value + (last_value - first_value) * double(i) / double(count - 1);
        grid.push_back(schedule.at(schedule.time_at(-2 * scale.from(value))));
    }
    if (count > 1) grid.push_back(last);
    return grid;
}

/// Likewise from t = start to t = 1.
Grid spaced_in(const Scale& scale, const Schedule& schedule, int64_t start, int64_t count) {
    return spaced_in(scale, schedule, schedule.at(double(start)), schedule.at(1), count);
}

Grid then_data(Grid grid) { return then(std::move(grid), {NoiseLevel{}}); }

/// The level of a ratio, or the schedule's nearest end.
NoiseLevel at_ratio(const Schedule& schedule, double ratio) {
    return schedule.at(schedule.time_at(-2 * std::log(ratio)));
}

/// What a grid is asked to be: so many steps from t = start to data.
struct Span {
    int64_t start, steps;
    bool is_default;  ///< nobody says where it starts
    double shift;
};
using Spacing = Grid (*)(const Schedule& schedule, const Span& span);

/// At whole t, t_i = S (1 - i/steps); trailing is the same (Lin et al. 2024, arXiv:2305.08891, section 3.3).
Grid uniform(const Schedule& schedule, const Span& span) {
    return at_integer_times(schedule, span.start, span.steps, [](double fraction) { return fraction; });
}

/// At whole t, t_i = S (1 - i/steps)^2, finer towards the data (Song et al. 2021, arXiv:2010.02502, appendix D.2).
Grid quadratic(const Schedule& schedule, const Span& span) {
    return at_integer_times(schedule, span.start, span.steps, [](double fraction) { return fraction * fraction; });
}

/// Between S and 1 at equal distances in log-SNR (Lu et al. 2022, arXiv:2206.00927, section 3.4), then data.
Grid log_snr(const Schedule& schedule, const Span& span) {
    return then_data(spaced_in(kLogarithmic, schedule, span.start, span.steps));
}

/// Between S and 1 at equal distances in r^(1/7), r = sigma / alpha (Karras et al. 2022, arXiv:2206.00364, eq. 5).
Grid karras(const Schedule& schedule, const Span& span) {
    return then_data(spaced_in(kKarras, schedule, span.start, span.steps));
}

/// Likewise from r = 80, where nobody says otherwise, to 0.002, or the nearest ends that there are (Karras et al. 2022,
/// table 1).
Grid edm(const Schedule& schedule, const Span& span) {
    constexpr double kLow = 0.002;
    NoiseLevel first = schedule.at(double(span.start));
    if (span.is_default && first.ratio() > kDefaultMaxRatio) first = at_ratio(schedule, kDefaultMaxRatio);
    return then_data(spaced_in(kKarras, schedule, first, at_ratio(schedule, kLow), span.steps));
}

/// At equal distances in the time u = r / (1 + r) of the linear path, down to data (Esser et al. 2024,
/// arXiv:2403.03206), with u' = shift u / (1 + (shift - 1) u) instead of u (eq. 23).
Grid flow(const Schedule& schedule, const Span& span) {
    const auto [start, steps, is_default, shift] = span;
    const NoiseLevel first = schedule.at(double(start));
    const double begin = first.sigma / (first.alpha + first.sigma);
    const double unshifted = begin / (shift - (shift - 1) * begin);  // so that shifting ends where grids begin
    Grid grid = {first};
    for (int64_t i = 1; i < steps; ++i) {
        const double u = unshifted * (1 - double(i) / double(steps)), shifted = shift * u / (1 + (shift - 1) * u);
        grid.push_back(at_ratio(schedule, shifted / (1 - shifted)));
    }
    return then_data(grid);
}

const Table<Spacing>& spacings() {
    static const Table<Spacing> table({{"uniform", uniform},
                                       {"quadratic", quadratic},
                                       {"log-snr", log_snr},
                                       {"karras", karras},
                                       {"edm", edm},
                                       {"flow", flow}},
                                      {{"trailing", "uniform"}});
    return table;
}

bool descends(const Grid& grid) {
    const auto stays = [](const NoiseLevel& from, const NoiseLevel& to) { return !(to.ratio() < from.ratio()); };
    return std::ranges::adjacent_find(grid, stays) == grid.end();
}

}  // namespace

int64_t grid_start(const Schedule& schedule, std::optional<double> max_ratio) {
    const auto ratio = [&](int64_t t) { return schedule.at(double(t)).ratio(); };
    int64_t t = schedule.steps();
    if (!max_ratio && (schedule.zero_terminal_snr() || ratio(t) <= kModerateRatio)) return t;
    const double max = max_ratio.value_or(kDefaultMaxRatio);
    if (!(max >= ratio(1))) {
        throw Error(fmt::format("no noise level of the schedule has sigma / alpha of {} or less; the first has {:.4g}",
                                max, ratio(1)));
    }
    while (ratio(t) > max) --t;
    return t;
}

Grid make_grid(const Schedule& schedule, const std::string& spacing, int64_t steps, std::optional<double> max_ratio,
               double shift) {
    const Spacing make = look_up("spacing", spacings(), spacing);
    const int64_t start = grid_start(schedule, max_ratio);
    if (steps < 1 || steps > start) {
        throw Error(
            fmt::format("{} steps asked of a grid that begins at t = {}; expected 1 to {}", steps, start, start));
    }
    Grid grid = make(schedule, {start, steps, !max_ratio, shift});
    if (descends(grid)) return grid;
    throw Error(fmt::format(
        "{} steps are too many for the spacing {}: the schedule has no levels below t = 1; expected 1 to {}", steps,
        spacing, most_steps(schedule, spacing, steps, max_ratio, shift)));
}

int64_t most_steps(const Schedule& schedule, const std::string& spacing, int64_t wanted,
                   std::optional<double> max_ratio, double shift) {
    const Spacing make = look_up("spacing", spacings(), spacing);
    const int64_t start = grid_start(schedule, max_ratio), all = std::min(wanted, start);
    const auto fit = [&](int64_t steps) { return descends(make(schedule, {start, steps, !max_ratio, shift})); };
    if (fit(all)) return all;
    int64_t fitting = 1, too_many = all;
    while (too_many - fitting > 1) {
        const int64_t middle = std::midpoint(fitting, too_many);
        (fit(middle) ? fitting : too_many) = middle;
    }
    return fitting;
}

Grid likelihood_grid(const Schedule& schedule, int64_t steps, std::optional<double> max_ratio) {
    const int64_t start = grid_start(schedule, max_ratio);
    return reversed(spaced_in(kLogarithmic, schedule, start, start > 1 ? steps + 1 : 1));
}

double ncsn_factor(int64_t dimensions) {
    const auto below = [](double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; };
    const auto shared = [&](double factor) {
        const double away = std::sqrt(2 * double(dimensions)) * (factor - 1);
        return below(away + 3 * factor) - below(away - 3 * factor);
    };
    double low = 1, high = kMaxFactor;
    if (shared(high) > 0.5) return high;
    while (high - low > 1e-14 * low) {
        const double middle = (low + high) / 2;
        (shared(middle) > 0.5 ? low : high) = middle;
    }
    return low;
}

int64_t ncsn_levels(int64_t dimensions, double first_ratio, double last_ratio) {
    const double distance = std::abs(std::log(first_ratio / last_ratio));
    return 1 + std::llround(distance / std::log(ncsn_factor(dimensions)));
}

std::vector<std::string> spacing_names() { return names(spacings()); }

Grid normalised(Grid grid) {
    for (auto& level : grid) level = normalised(level);
    return grid;
}

Grid reversed(Grid grid) {
    std::reverse(grid.begin(), grid.end());
    return grid;
}

}  // namespace diffuse
