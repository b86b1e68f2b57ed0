#pragma once

#include <optional>
#include <string>
#include <utility>

#include "diffuse/base/fields.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/diffusion/network.hpp"
#include "diffuse/solve/solver.hpp"

namespace diffuse {

/// How a model draws, encodes and decodes: a solver, its grid, and what the denoiser is made of.
struct SampleOptions {
    std::string solver = "unipc";  ///< the best at 10 to 20 network evaluations (docs/solvers.md)
    std::optional<int64_t> steps, nfe;
    std::string spacing;  ///< empty: the solver's
    std::optional<double> max_ratio, shift;
    SolverOptions solver_options;  ///< the solver's own
    std::optional<bool> clip_x0;
    std::string weights = "ema";
    std::string classes = "all";  ///< what is drawn (`ConditionSpec`)
    double guidance = 1;          ///< the scale (guidance.hpp)
    std::optional<std::pair<double, double>> guidance_interval;
    double guidance_rescale = 0;
    std::optional<std::string> negative_class;  ///< what guidance leads away from, instead of no class
    std::string guide;                          ///< checkpoint that it leads away from
    std::optional<double> threshold;            ///< percentile
    int64_t batch = 0;
    Direction direction = Direction::kSampling;

    const SolverKind& solver_kind() const;
    const std::string& spacing_name() const;
    bool stochastic() const;
    friend bool operator==(const SampleOptions&, const SampleOptions&) = default;
};

/// Without what only stochastic solvers need where the direction is encoding.
Fields fields(SampleOptions& options);

/// Without what would have no effect: eta of a solver that takes none, and what shapes guidance at a scale of 1. For
/// defaults, which a chosen solver or scale may leave behind; what a user gives is refused by `check` instead.
SampleOptions without_idle(SampleOptions options);

/// Throws Error for what cannot be right whatever the model: eta with a solver that has none, a stochastic solver for
/// encoding. Like those below, its message names keys of the config: "sample.eta".
void check(const SampleOptions& options);

/// Throws Error for points with what is of images: what keeps them between black and white, or gives back contrast.
void check_bounds(const SampleOptions& options, const ExampleShape& shape);

/// Throws Error where guidance would change nothing, since examples of this condition are drawn of no class anyway.
void check_guidance(const SampleOptions& options, const Condition& condition);

/// The number of the negative class, if there is one. Throws Error for one that is not known.
std::optional<int64_t> negative_class(const SampleOptions& options, const ConditionSpec& known);

/// Whether the step between two levels is guided, of examples that have a condition or not: guidance leads from it or
/// from another network.
bool is_guided(const SampleOptions& options, bool has_condition, const NoiseLevel& from, const NoiseLevel& to);

/// The levels down to data, for examples of so many numbers. Throws Error where the schedule has not so many.
Grid make_grid(const SampleOptions& options, const Schedule& schedule, int64_t dimensions);

}  // namespace diffuse
