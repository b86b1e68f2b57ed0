#include "diffuse/run/sample_options.hpp"

#include <fmt/format.h>

#include <limits>
#include <set>

#include "diffuse/diffusion/guidance.hpp"
#include "diffuse/run/model.hpp"

namespace diffuse {

const SolverKind& SampleOptions::solver_kind() const { return look_up("solver", solvers(), solver); }

const std::string& SampleOptions::spacing_name() const {
    return spacing.empty() ? solver_kind().default_spacing : spacing;
}

bool SampleOptions::stochastic() const { return solver_kind().stochastic || solver_options.eta.value_or(0) > 0; }

Fields fields(SampleOptions& o) {
    using Integer = Number<std::optional<int64_t>>;
    using Real = Number<std::optional<double>>;
    Fields all = {
        {"solver", Choice{&o.solver, names(solvers())}, "solver"},
        {.key = "steps",
         .value = Integer{&o.steps, 1, 100'000},
         .meaning = "steps of the grid",
         .by_default = "20; ddpm every level, dopri5 1, euler-maruyama and reverse-diffusion 200, pc 100, edm-sde 64, "
                       "langevin as many as NCSNv2's rule takes"},
        {"nfe", Integer{&o.nfe, 1, 1'000'000},
         "largest number of network evaluations of an image, which decides the steps"},
        {.key = "spacing",
         .value = Choice{&o.spacing, spacing_names(), /*optional=*/true},
         .meaning = "spacing of the grid's levels",
         .by_default = "uniform; langevin log-snr, edm-sde edm"},
        {.key = "shift",
         .value = Real{&o.shift, 1e-3, 1e3},
         .meaning = "shift of the spacing's times; above 1: finer near noise",
         .by_default = "1",
         .belongs = {"spacing", {"flow"}}},
        {.key = "clip_x0",
         .value = &o.clip_x0,
         .meaning = "clamp the predicted image to [-1, 1] at each step",
         .by_default = "for stochastic solvers and eta above 0"},
        {.key = "max_ratio",
         .value = Real{&o.max_ratio, 0, std::numeric_limits<double>::infinity()},
         .meaning = "largest sigma / alpha of a grid, where it begins; inf: at T",
         .by_default = "that of T where it is at most 200 or pure noise on purpose, else 80"},
        {"weights", Choice{&o.weights, weights_names()}, "averaged or raw weights"},
        {"class", &o.classes,
         o.direction == Direction::kEncoding
             ? "class of each image, of a network with labels: own, which a data set knows and a PNG file does not; "
               "none; or numbers: 3 or 0,1,2"
             : "classes to draw, of a network with labels: all, one after the other; none; or numbers or names: 3, cat "
               "or 0,1,2"},
        {"guidance", Number<double>{&o.guidance, -100, 100},
         "scale of classifier-free guidance: 1 is class-conditional, 0 unconditional, more exaggerates; w = scale - 1"},
        {.key = "guidance_interval",
         .value = Interval{&o.guidance_interval, 0, std::numeric_limits<double>::infinity()},
         .meaning = "noise levels sigma / alpha in which guidance holds, by whole steps; elsewhere the scale is 1",
         .by_default = "all levels"},
        {"guidance_rescale", Number<double>{&o.guidance_rescale, 0, 1},
         "guidance rescale factor phi: share of the standard deviation that guidance changed which is given back"},
        {.key = "negative_class",
         .value = &o.negative_class,
         .meaning = "negative class, by the name or number that class takes: guidance leads away from it",
         .by_default = "no class"},
        {"guide", &o.guide,
         "checkpoint that guidance leads away from, of a smaller or less trained network of the same images, instead "
         "of this network without the class"},
        {"threshold", Real{&o.threshold, 50, 100},
         "dynamic thresholding percentile: of the pixels of x0 by size, to which x0 is clamped and scaled at each step "
         "where it is above 1"},
        {"batch", Number<int64_t>{&o.batch, 0, 1'000'000},
         "images worked on at once, for less memory; 0: as many as keep the machine busy (256 on a GPU); on the CPU in "
         "groups of 8, and never changes an image; on a GPU another number may change their last digits"}};
    // After the spacing's, where people look for them.
    const auto behind = std::ranges::find(all, std::string("shift"), &Field::key) + 1;
    const Fields own = fields(o.solver_options);
    all.insert(behind, own.begin(), own.end());
    const std::set<std::string> of_sampling = {"eta", "snr", "churn", "clip_x0", "threshold"};
    const auto foreign = [&](const Field& field) { return of_sampling.contains(field.key); };
    if (o.direction == Direction::kEncoding) std::erase_if(all, foreign);
    return all;
}

SampleOptions without_idle(SampleOptions options) {
    forget_foreign(fields(options));
    if (options.guidance != 1) return options;
    options.guidance_interval.reset();
    options.negative_class.reset();
    options.guidance_rescale = 0;
    options.guide.clear();
    return options;
}

void check(const SampleOptions& options) {
    if (options.nfe && options.solver_kind().adaptive) {
        throw Error(
            fmt::format("sample.solver {} takes as many evaluations as its tolerance needs; say sample.tolerance "
                        "instead of sample.nfe",
                        options.solver));
    }
    if (options.steps && options.nfe) {
        throw Error("both sample.steps and sample.nfe are given; leave one of them out");
    }
    SampleOptions copy = options;
    check_belonging(fields(copy), "sample.");
    if (without_idle(options) != options) {
        throw Error(
            "sample.guide, sample.negative_class, sample.guidance_interval and sample.guidance_rescale change nothing "
            "at sample.guidance 1");
    }
    if (!options.guide.empty() && options.negative_class) {
        throw Error(
            "guidance leads away from sample.guide or from sample.negative_class, not from both; leave one of them "
            "out");
    }
    if (options.direction == Direction::kEncoding && options.stochastic()) {
        throw Error(fmt::format("sample.solver {} is stochastic and has no way back; take a deterministic one",
                                options.solver));
    }
}

bool is_guided(const SampleOptions& options, bool has_condition, const NoiseLevel& from, const NoiseLevel& to) {
    if (options.guidance == 1 || (!has_condition && options.guide.empty())) return false;
    const auto& interval = options.guidance_interval;
    return !interval || RatioInterval{interval->first, interval->second}.holds(from, to);
}

namespace {

/// Evaluations of an image along a grid down to data: two instead of one in guided steps, but one at a scale of 0.
int64_t evaluations_along(const SampleOptions& options, const Grid& grid) {
    const SolverKind& kind = options.solver_kind();
    const int64_t at_data = options.direction == Direction::kEncoding ? kind.first_evaluations : kind.last_evaluations;
    int64_t count = 0;
    for (size_t i = 0; i + 1 < grid.size(); ++i) {
        const bool both = options.guidance != 0 && is_guided(options, options.classes != "none", grid[i], grid[i + 1]);
        count += (i + 2 == grid.size() ? at_data : kind.evaluations) * (both ? 2 : 1);
    }
    return count;
}

/// Where a grid of so many steps begins. DDPM's chain in as many steps as the schedule has begins at T, whatever
/// sigma / alpha is there (Ho et al. 2020, arXiv:2006.11239, algorithm 2).
std::optional<double> max_ratio_for(const SampleOptions& options, const Schedule& schedule, int64_t steps) {
    const int64_t start = grid_start(schedule, options.max_ratio), all = schedule.steps();
    if (options.max_ratio || steps <= start || steps > all) return options.max_ratio;
    if (steps == all && options.solver_kind().default_steps == kEveryLevel)
        return std::numeric_limits<double>::infinity();
    throw Error(
        fmt::format("{} steps asked of a grid that begins at t = {}; expected 1 to {}, or sample.max_ratio inf, by "
                    "which it begins at t = {}",
                    steps, start, start, all));
}

/// Where an adaptive solver must stop on its way, by ratio: at the ends of the interval of guidance, and beside pure
/// noise, from where to there one step is DDIM's (`integrate`).
std::vector<double> stops_of(const SampleOptions& options) {
    constexpr double kBesidePureNoise = 1e4;
    std::vector<double> stops = {kBesidePureNoise};
    if (options.guidance == 1 || !options.guidance_interval) return stops;
    stops.insert(stops.end(), {options.guidance_interval->second, options.guidance_interval->first});
    return stops;
}

/// The levels of so many steps. An adaptive solver's are no steps of its own, so its stops are levels too.
Grid grid_of(const SampleOptions& options, const Schedule& schedule, int64_t steps) {
    Grid grid = make_grid(schedule, options.spacing_name(), steps, max_ratio_for(options, schedule, steps),
                          options.shift.value_or(1));
    if (!options.solver_kind().adaptive) return grid;
    for (const double end : stops_of(options)) {
        const auto below = std::ranges::find_if(grid, [&](const NoiseLevel& level) { return level.ratio() < end; });
        if (below == grid.begin() || below == grid.end() || end < schedule.at(1).ratio()) continue;
        grid.insert(below, schedule.at(schedule.time_at(-2 * std::log(end))));
    }
    return grid;
}

/// So many steps, or as many as the spacing has levels for.
int64_t fitting(const SampleOptions& options, const Schedule& schedule, int64_t steps) {
    return most_steps(schedule, options.spacing_name(), steps, options.max_ratio, options.shift.value_or(1));
}

/// The longest grid with at most options.nfe evaluations.
Grid grid_for_nfe(const SampleOptions& options, const Schedule& schedule) {
    int64_t steps = fitting(options, schedule, steps_for(options.solver_kind(), *options.nfe, options.direction));
    while (true) {
        const Grid grid = grid_of(options, schedule, steps);
        if (evaluations_along(options, grid) <= *options.nfe) return grid;
        if (--steps == 0) {
            throw Error(fmt::format("{} evaluations have room for no guided step of {}; sample.nfe {} or more has",
                                    *options.nfe, options.solver, 2 * options.solver_kind().last_evaluations));
        }
    }
}

/// The solver's, as far as there are so many levels.
int64_t default_steps(const SampleOptions& options, const Schedule& schedule, int64_t dimensions) {
    const int64_t all = grid_start(schedule, options.max_ratio), chosen = options.solver_kind().default_steps;
    const auto ratio = [&](int64_t t) { return schedule.at(double(t)).ratio(); };
    const int64_t wanted = chosen == kEveryLevel   ? all
                           : chosen == kNcsnLevels ? ncsn_levels(dimensions, ratio(all), ratio(1))
                                                   : chosen;
    return fitting(options, schedule, wanted);
}

/// What `make` returns; an error names the key that it is about.
template <class Make>
auto about(const std::string& key, const Make& make) {
    try {
        return make();
    } catch (const Error& error) {
        throw Error(fmt::format("{}: {}", key, error.what()));
    }
}

}  // namespace

void check_bounds(const SampleOptions& options, const ExampleShape& shape) {
    if (!shape.points) return;
    if (options.guidance_rescale > 0) {
        throw Error("sample.guidance_rescale gives an image its contrast back; the few numbers of a point have none");
    }
    if (!options.threshold && !options.clip_x0.value_or(false)) return;
    throw Error("sample.clip_x0 and sample.threshold keep images between black and white; points have no such bounds");
}

void check_guidance(const SampleOptions& options, const Condition& condition) {
    if (condition.defined() || options.guidance == 1 || !options.guide.empty()) return;
    throw Error(
        fmt::format("sample.guidance {}: of no class there is nothing to lead to; say classes by sample.class, or "
                    "another checkpoint by sample.guide",
                    options.guidance));
}

std::optional<int64_t> negative_class(const SampleOptions& options, const ConditionSpec& known) {
    if (!options.negative_class || known.classes.count == 0) return std::nullopt;
    try {
        return known.class_number(*options.negative_class);
    } catch (const Error& error) {
        throw Error(fmt::format("sample.negative_class: {}", error.what()));
    }
}

Grid make_grid(const SampleOptions& options, const Schedule& schedule, int64_t dimensions) {
    about("sample.max_ratio", [&] { return grid_start(schedule, options.max_ratio); });
    if (options.nfe) return about("sample.nfe", [&] { return grid_for_nfe(options, schedule); });
    return about("sample.steps", [&] {
        return grid_of(options, schedule, options.steps.value_or(default_steps(options, schedule, dimensions)));
    });
}

}  // namespace diffuse
