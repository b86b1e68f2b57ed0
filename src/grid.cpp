#include "diffuse/grid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "diffuse/error.hpp"

namespace diffuse {
namespace {

constexpr double kKarrasRho = 7;

/// Whole times T * time_left(fraction of the steps left, 1 to 0).
Grid at_whole_times(const Schedule& schedule, int64_t steps, double (*time_left)(double fraction)) {
    Grid grid;
    for (int64_t left = steps; left >= 0; --left) {
        const double t = std::round(double(schedule.steps()) * time_left(double(left) / double(steps)));
        grid.push_back(schedule.at(std::max(t, double(left))));  // close to the data, rounding must not merge levels
    }
    return grid;
}

/// Even in a function of r from T to 1, then 0. `to` maps log r to the function, `from` back.
Grid even_in(const Schedule& schedule, int64_t steps, double (*to)(double log_r), double (*from)(double value)) {
    const NoiseLevel last = schedule.at(double(schedule.steps())), one = schedule.at(1);
    const double first_value = to(-last.log_snr() / 2), one_value = to(-one.log_snr() / 2);
    Grid grid = {last};
    for (int64_t i = 1; i + 1 < steps; ++i) {
        const double value = first_value + (one_value - first_value) * double(i) / double(steps - 1);
        grid.push_back(schedule.at(schedule.time_at(-2 * from(value))));
    }
    if (steps > 1) grid.push_back(one);
    grid.push_back(schedule.at(0));
    return grid;
}

using Spacing = Grid (*)(const Schedule& schedule, int64_t steps);
Grid uniform(const Schedule& schedule, int64_t steps) {
    return at_whole_times(schedule, steps, [](double fraction) { return fraction; });
}
Grid quadratic(const Schedule& schedule, int64_t steps) {
    return at_whole_times(schedule, steps, [](double fraction) { return fraction * fraction; });
}
Grid log_snr(const Schedule& schedule, int64_t steps) {
    const auto same = [](double value) { return value; };
    return even_in(schedule, steps, same, same);
}
Grid karras(const Schedule& schedule, int64_t steps) {
    return even_in(
        schedule, steps, [](double log_r) { return std::exp(log_r / kKarrasRho); },
        [](double value) { return kKarrasRho * std::log(value); });
}

const Table<Spacing>& spacings() {
    static const Table<Spacing> table = {{"uniform", uniform},
                                         {"trailing", uniform},
                                         {"quadratic", quadratic},
                                         {"log-snr", log_snr},
                                         {"karras", karras}};
    return table;
}

}  // namespace

Grid make_grid(const Schedule& schedule, const std::string& spacing, int64_t steps) {
    const Spacing make = look_up("spacing", spacings(), spacing);
    if (steps < 1 || steps > schedule.steps()) {
        throw Error(fmt::format("{} steps asked of a schedule that has {}; expected 1 to {}", steps, schedule.steps(),
                                schedule.steps()));
    }
    return make(schedule, steps);
}

std::vector<std::string> spacing_names() { return names(spacings()); }

Grid reversed(Grid grid) {
    std::reverse(grid.begin(), grid.end());
    return grid;
}

}  // namespace diffuse
