#include "diffuse/solve/solver.hpp"

#include <fmt/format.h>

namespace diffuse {

namespace {

constexpr int64_t kLangevinSteps = 5;      // Song & Ermon 2020, arXiv:2006.09011, table 3
constexpr double kLangevinStepSize = 0.1;  // of r^2

}  // namespace

const Table<SolverKind>& solvers() {
    static const Table<SolverKind> table = {
        {"ddpm", {.make = [](const SolverOptions&) { return make_ddpm(); }, .default_steps = 0, .stochastic = true}},
        {"ddpm-upper",
         {.make = [](const SolverOptions&) { return make_ddpm(DdpmVariance::kUpper); },
          .default_steps = 0,
          .stochastic = true}},
        {"ddim", {.make = [](const SolverOptions& options) { return make_ddim(options.eta); }, .takes_eta = true}},
        {"euler", {.make = [](const SolverOptions&) { return make_ddim(0); }}},
        {"heun", {.make = [](const SolverOptions&) { return make_heun(); }, .evaluations = 2, .first_evaluations = 2}},
        {"rk4", {.make = [](const SolverOptions&) { return make_rk4(); }, .evaluations = 4, .first_evaluations = 4}},
        {"ipndm", {.make = [](const SolverOptions&) { return make_ipndm(); }}},
        {"dpm-2", {.make = [](const SolverOptions&) { return make_dpm(2); }, .evaluations = 2}},
        {"dpm-3", {.make = [](const SolverOptions&) { return make_dpm(3); }, .evaluations = 3}},
        {"dpmpp-2m", {.make = [](const SolverOptions&) { return make_dpmpp(2); }}},
        {"dpmpp-3m", {.make = [](const SolverOptions&) { return make_dpmpp(3); }}},
        {"reversible",
         {.make = [](const SolverOptions&) { return make_reversible(); },
          .evaluations = 2,
          .first_evaluations = 2,
          .last_evaluations = 2}},
        {"dopri5", {.make = [](const SolverOptions& o) { return make_dopri5(o.tolerance); }, .default_steps = 1}},
        {"euler-maruyama",
         {.make = [](const SolverOptions& o) { return make_euler_maruyama(o.schedule, o.eta); },
          .takes_eta = true,
          .default_eta = 1,
          .default_steps = 200,
          .stochastic = true}},
        {"reverse-diffusion",
         {.make = [](const SolverOptions&) { return make_reverse_diffusion(); },
          .default_steps = 200,
          .stochastic = true}},
        {"pc",
         {.make = [](const SolverOptions& o) { return make_predictor_corrector(o.snr); },
          .evaluations = 2,
          .default_steps = 100,
          .stochastic = true}},
        {"langevin",
         {.make = [](const SolverOptions&) { return make_langevin(kLangevinSteps, kLangevinStepSize); },
          .evaluations = kLangevinSteps,
          .last_evaluations = kLangevinSteps + 1,
          .default_steps = 50,
          .stochastic = true}},
        {"edm-sde",
         {.make = [](const SolverOptions& o) { return make_edm_sde({.amount = o.churn}, o.steps); },
          .evaluations = 2,
          .stochastic = true}},
        {"unipc", {.make = [](const SolverOptions&) { return make_unipc(); }}},
    };
    return table;
}

int64_t steps_for(const SolverKind& kind, int64_t nfe, Direction direction) {
    const int64_t at_data = direction == Direction::kEncoding ? std::max(kind.first_evaluations, kind.last_evaluations)
                                                              : kind.last_evaluations;
    if (nfe < at_data) {
        throw Error(
            fmt::format("a step of this solver takes {} network evaluations; {} have room for none", at_data, nfe));
    }
    return (nfe - at_data) / kind.evaluations + 1;
}

}  // namespace diffuse
