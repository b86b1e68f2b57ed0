#pragma once

#include "diffuse/solve/solver.hpp"

/// The row of each solver in the table (solver.cpp), beside its class.
namespace diffuse {

SolverKind ddpm_solver();
SolverKind ddpm_upper_solver();
SolverKind ddim_solver();
SolverKind heun_solver();
SolverKind rk4_solver();
SolverKind ipndm_solver();
SolverKind dpm_solver(int order);
SolverKind dpmpp_solver(int order);
SolverKind reversible_solver();
SolverKind dopri5_solver();
SolverKind euler_maruyama_solver();
SolverKind reverse_diffusion_solver();
SolverKind predictor_corrector_solver();
SolverKind langevin_solver();
SolverKind edm_sde_solver();
SolverKind unipc_solver();

/// For `SolverKind::make`, of a solver that has nothing to choose.
template <class S>
std::unique_ptr<Solver> make(const SolverOptions&) {
    return std::make_unique<S>();
}

/// An option that a solver takes, from 0 or `low` on, and what it is there where nobody says.
Field solver_option(const std::string& key, Number<std::optional<double>> value, double by_default,
                    const std::string& meaning);
Field eta_option(SolverOptions& options, double by_default);

}  // namespace diffuse
