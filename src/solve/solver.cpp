#include "diffuse/solve/solver.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "solve/kinds.hpp"

namespace diffuse {

const Table<SolverKind>& solvers() {
    static const Table<SolverKind> table(
        {
            {"ddpm", ddpm_solver()},
            {"ddpm-upper", ddpm_upper_solver()},
            {"ddim", ddim_solver()},
            {"heun", heun_solver()},
            {"rk4", rk4_solver()},
            {"ipndm", ipndm_solver()},
            {"dpm-2", dpm_solver(2)},
            {"dpm-3", dpm_solver(3)},
            {"dpmpp-2m", dpmpp_solver(2)},
            {"dpmpp-3m", dpmpp_solver(3)},
            {"reversible", reversible_solver()},
            {"dopri5", dopri5_solver()},
            {"euler-maruyama", euler_maruyama_solver()},
            {"reverse-diffusion", reverse_diffusion_solver()},
            {"pc", predictor_corrector_solver()},
            {"langevin", langevin_solver()},
            {"edm-sde", edm_sde_solver()},
            {"unipc", unipc_solver()},
        },
        {{"euler", "ddim"}});
    return table;
}

std::unique_ptr<Solver> make_solver(const std::string& name, const SolverOptions& options) {
    return look_up("solver", solvers(), name).make(options);
}

Field solver_option(const std::string& key, Number<std::optional<double>> value, double by_default,
                    const std::string& meaning) {
    return {.key = key, .value = value, .meaning = meaning, .by_default = fmt::format("{:g}", by_default)};
}

Field eta_option(SolverOptions& options, double by_default) {
    return solver_option("eta", {&options.eta, 0, 1}, by_default,
                         "share of the process's noise, from ODE to SDE; euler is ddim with eta 0");
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
