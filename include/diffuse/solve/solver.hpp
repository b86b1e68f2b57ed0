#pragma once

#include <functional>
#include <memory>
#include <string>

#include "diffuse/base/fields.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/diffusion/denoiser.hpp"
#include "diffuse/diffusion/grid.hpp"

namespace diffuse {

/// Standard normal noise of x's shape and type: k = 0 is a step's first, k = 1 its second, each independent of the
/// others and the same whenever it is asked for. Drawn only by the solvers that need it.
using Noise = std::function<torch::Tensor(int64_t k)>;

/// One step from one noise level to another. An object serves one trajectory, so a multistep method keeps its history
/// in members. Deterministic solvers walk in both directions; from sigma = 0 they evaluate at t = 1 (network_denoiser).
class Solver {
public:
    virtual ~Solver() = default;
    /// x at `from` -> x at `to`, same shape and type.
    virtual torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from,
                               const NoiseLevel& to, const Noise& noise) = 0;
    /// The second state that a reversible method keeps beside x; null for all others. Not
    /// defined before the first step, when it becomes a copy of x unless it was set.
    virtual torch::Tensor* second_state() { return nullptr; }
};

using SolverFactory = std::function<std::unique_ptr<Solver>()>;

/// What solvers are made with: what only some take and a person may say, else what that solver does by default; and
/// where it is to walk.
struct SolverOptions {
    std::optional<double> eta;                 ///< share of the process's noise, from ODE to SDE
    std::optional<double> snr;                 ///< signal-to-noise ratio of Langevin steps
    std::optional<double> churn;               ///< S_churn
    std::optional<double> tolerance;           ///< largest error of a step
    std::shared_ptr<const Schedule> schedule;  ///< for those on an SDE of a schedule's
    int64_t steps = 1;                         ///< of the whole grid
    bool operator==(const SolverOptions&) const = default;
};
/// Each belongs to the solvers (field "solver") that take it.
Fields fields(SolverOptions& options);

/// A number of steps: one for each level of the schedule, or as many as NCSNv2's rule takes (`ncsn_levels`).
inline constexpr int64_t kEveryLevel = 0, kNcsnLevels = -1;

/// A row of the table of solvers.
struct SolverKind {
    std::function<std::unique_ptr<Solver>(const SolverOptions& options)> make;
    int64_t evaluations = 1;        ///< of the network in each step
    int64_t first_evaluations = 1;  ///< in the first one of encoding, from sigma = 0
    int64_t last_evaluations = 1;   ///< in the last one of sampling, to sigma = 0
    int64_t default_steps = 20;     ///< of a grid, or kEveryLevel, or kNcsnLevels
    std::string default_spacing = "uniform";
    bool stochastic = false;  ///< has no way back from data, whatever eta
    bool adaptive = false;    ///< takes as many evaluations as an example needs, each of which goes alone
    bool pairs = false;       ///< walks two states (`Solver::second_state`)
    /// What it takes, of SolverOptions.
    Fields (*fields)(SolverOptions& options) = nullptr;
};
const Table<SolverKind>& solvers();
/// The one of this name. Throws Error for an unknown one.
std::unique_ptr<Solver> make_solver(const std::string& name, const SolverOptions& options = {});

// With more to choose than `SolverOptions` have.

/// Annealed Langevin dynamics (langevin.cpp), so many steps a level.
std::unique_ptr<Solver> make_langevin(int64_t steps, double step_size);
/// EDM's stochastic sampler (edm_sde.cpp): S_churn, S_tmin, S_tmax and S_noise, here those of ImageNet, of which
/// S_churn is for 256 steps (Karras et al. 2022, arXiv:2206.00364, table 5).
struct Churn {
    double amount = 40, min = 0.05, max = 50, noise = 1.003;
};
std::unique_ptr<Solver> make_edm_sde(const Churn& churn, int64_t steps);

/// Which way a grid is walked: down to the data, or up from it (and perhaps down again).
enum class Direction { kSampling, kEncoding };

/// The most steps that take at most `nfe` network evaluations; in encoding, each way. Throws Error when not even one
/// does.
int64_t steps_for(const SolverKind& kind, int64_t nfe, Direction direction);

}  // namespace diffuse
