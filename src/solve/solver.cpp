#include "diffuse/solve/solver.hpp"

#include <fmt/format.h>

namespace diffuse {

const Table<SolverKind>& solvers() {
    static const Table<SolverKind> table = {
        {"ddpm", {.make = [](double) { return make_ddpm(); }, .stochastic = true}},
        {"ddpm-upper", {.make = [](double) { return make_ddpm(DdpmVariance::kUpper); }, .stochastic = true}},
        {"ddim", {.make = [](double eta) { return make_ddim(eta); }, .takes_eta = true}},
        {"euler", {.make = [](double) { return make_ddim(0); }}},
        {"heun", {.make = [](double) { return make_heun(); }, .evaluations = 2, .first_evaluations = 2}},
        {"rk4", {.make = [](double) { return make_rk4(); }, .evaluations = 4, .first_evaluations = 4}},
        {"ipndm", {.make = [](double) { return make_ipndm(); }}},
        {"dpm-2", {.make = [](double) { return make_dpm(2); }, .evaluations = 2}},
        {"dpm-3", {.make = [](double) { return make_dpm(3); }, .evaluations = 3}},
        {"dpmpp-2m", {.make = [](double) { return make_dpmpp(2); }}},
        {"dpmpp-3m", {.make = [](double) { return make_dpmpp(3); }}},
        {"reversible",
         {.make = [](double) { return make_reversible(); },
          .evaluations = 2,
          .first_evaluations = 2,
          .last_evaluations = 2}},
        {"unipc", {.make = [](double) { return make_unipc(); }}},
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
