#include "diffuse/solver.hpp"

namespace diffuse {

const Table<SolverKind>& solvers() {
    static const Table<SolverKind> table = {
        {"ddpm", {.make = [](double) { return make_ddpm(); }, .stochastic = true}},
        {"ddim", {.make = [](double eta) { return make_ddim(eta); }, .takes_eta = true}},
        {"heun", {.make = [](double) { return make_heun(); }}},
    };
    return table;
}

}  // namespace diffuse
