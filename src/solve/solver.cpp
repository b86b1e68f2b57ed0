#include "diffuse/solve/solver.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace diffuse {

namespace {

constexpr int64_t kLangevinSteps = 5;      // Song & Ermon 2020, arXiv:2006.09011, table 3
constexpr double kLangevinStepSize = 0.1;  // of r^2
constexpr double kSnr = 0.16;              // Song et al. 2021, appendix G
constexpr double kTolerance = 1e-4;

using Real = Number<std::optional<double>>;

/// "0.16", as help says it.
std::string by_default(double value) { return fmt::format("{:g}", value); }

template <int kDefault>
Fields eta_field(SolverOptions& o) {
    return {{.key = "eta",
             .value = Real{&o.eta, 0, 1},
             .meaning = "share of the process's noise, from ODE to SDE",
             .by_default = by_default(kDefault)}};
}
Fields snr_field(SolverOptions& o) {
    return {{.key = "snr",
             .value = Real{&o.snr, 0, 10},
             .meaning = "signal-to-noise ratio of the Langevin steps",
             .by_default = by_default(kSnr)}};
}
Fields churn_field(SolverOptions& o) {
    return {{.key = "churn",
             .value = Real{&o.churn, 0, 1e6},
             .meaning = "S_churn, noise added on the whole way",
             .by_default = by_default(Churn{}.amount)}};
}
Fields tolerance_field(SolverOptions& o) {
    return {{.key = "tolerance",
             .value = Real{&o.tolerance, 1e-10, 1},
             .meaning = "relative and absolute tolerance of a step's error",
             .by_default = by_default(kTolerance)}};
}

}  // namespace

const Table<SolverKind>& solvers() {
    static const Table<SolverKind> table = {
        {"ddpm", {.make = [](const SolverOptions&) { return make_ddpm(); }, .default_steps = 0, .stochastic = true}},
        {"ddpm-upper",
         {.make = [](const SolverOptions&) { return make_ddpm(DdpmVariance::kUpper); },
          .default_steps = 0,
          .stochastic = true}},
        {"ddim", {.make = [](const SolverOptions& o) { return make_ddim(o.eta.value_or(0)); }, .fields = eta_field<0>}},
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
          .last_evaluations = 2,
          .pairs = true}},
        {"dopri5",
         {.make = [](const SolverOptions& o) { return make_dopri5(o.tolerance.value_or(kTolerance)); },
          .default_steps = 1,
          .adaptive = true,
          .fields = tolerance_field}},
        {"euler-maruyama",
         {.make = [](const SolverOptions& o) { return make_euler_maruyama(o.schedule, o.eta.value_or(1)); },
          .default_steps = 200,
          .stochastic = true,
          .fields = eta_field<1>}},
        {"reverse-diffusion",
         {.make = [](const SolverOptions&) { return make_reverse_diffusion(); },
          .default_steps = 200,
          .stochastic = true}},
        {"pc",
         {.make = [](const SolverOptions& o) { return make_predictor_corrector(o.snr.value_or(kSnr)); },
          .evaluations = 2,
          .default_steps = 100,
          .stochastic = true,
          .fields = snr_field}},
        {"langevin",
         {.make = [](const SolverOptions&) { return make_langevin(kLangevinSteps, kLangevinStepSize); },
          .evaluations = kLangevinSteps,
          .last_evaluations = kLangevinSteps + 1,
          .default_steps = 50,
          .stochastic = true}},
        {"edm-sde",
         {.make =
              [](const SolverOptions& o) {
                  return make_edm_sde({.amount = o.churn.value_or(Churn{}.amount)}, o.steps);
              },
          .evaluations = 2,
          .stochastic = true,
          .fields = churn_field}},
        {"unipc", {.make = [](const SolverOptions&) { return make_unipc(); }}},
    };
    return table;
}

Fields fields(SolverOptions& options) {
    Fields all;
    for (const auto& [name, kind] : solvers()) {
        for (const auto& own : kind.fields ? kind.fields(options) : Fields()) {
            const std::string default_here = fmt::format("{} of {}", own.by_default, name);
            auto known = std::ranges::find(all, own.key, &Field::key);
            if (known == all.end()) {
                known = all.insert(known, own);
                known->by_default = default_here;
                known->belongs.choice = "solver";
            } else {
                known->by_default += ", " + default_here;
            }
            known->belongs.names.push_back(name);
        }
    }
    return all;
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
