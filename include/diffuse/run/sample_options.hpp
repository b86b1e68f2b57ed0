#pragma once

#include <optional>
#include <string>

#include "diffuse/base/fields.hpp"
#include "diffuse/solve/solver.hpp"

namespace diffuse {

/// How a model draws, encodes and decodes: a solver, its grid, and what the denoiser is made of.
struct SampleOptions {
    std::string solver = "unipc";  ///< the best at 10 to 20 network evaluations (docs/solvers.md)
    std::optional<int64_t> steps, nfe;
    std::string spacing = "uniform";
    std::optional<double> max_ratio, eta;
    std::optional<bool> clip_x0;
    std::string weights = "ema";
    int64_t batch = 0;
    Direction direction = Direction::kSampling;

    const SolverKind& solver_kind() const;
    bool stochastic() const;
};

/// Without what only stochastic solvers need where the direction is encoding.
Fields fields(SampleOptions& options);

/// Throws Error for what cannot be right whatever the model: eta with a solver that has none, a stochastic solver for
/// encoding.
void check(const SampleOptions& options);

/// The levels down to data. Throws Error where the schedule has not so many.
Grid make_grid(const SampleOptions& options, const Schedule& schedule);

}  // namespace diffuse
