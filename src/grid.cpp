#include "diffuse/grid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "diffuse/error.hpp"

namespace diffuse {
namespace {

using Spacing = double (*)(double fraction);  ///< maps the fraction of steps left, 1 to 0, to t / T
const Table<Spacing>& spacings() {
    static const Table<Spacing> table = {
        {"uniform", [](double fraction) { return fraction; }},
        {"quadratic", [](double fraction) { return fraction * fraction; }},
    };
    return table;
}

}  // namespace

Grid make_grid(const Schedule& schedule, const std::string& spacing, int64_t steps) {
    const Spacing time_left = look_up("spacing", spacings(), spacing);
    if (steps < 1 || steps > schedule.steps()) {
        throw Error(fmt::format("{} steps asked of a schedule that has {}; expected 1 to {}", steps, schedule.steps(),
                                schedule.steps()));
    }
    Grid grid;
    for (int64_t left = steps; left >= 0; --left) {
        const double t = std::round(double(schedule.steps()) * time_left(double(left) / double(steps)));
        grid.push_back(schedule.at(std::max(t, double(left))));  // close to the data, rounding must not merge levels
    }
    return grid;
}

std::vector<std::string> spacing_names() { return names(spacings()); }

Grid reversed(Grid grid) {
    std::reverse(grid.begin(), grid.end());
    return grid;
}

}  // namespace diffuse
