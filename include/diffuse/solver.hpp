#pragma once

#include <functional>
#include <memory>
#include <string>

#include "diffuse/denoiser.hpp"
#include "diffuse/error.hpp"
#include "diffuse/grid.hpp"

namespace diffuse {

/// Standard normal noise of x's shape and type; drawn only by the solvers that need it.
using Noise = std::function<torch::Tensor()>;

/// One step from one noise level to another. An object serves one trajectory, so a multistep method keeps its history
/// in members. Deterministic solvers walk in both directions; from sigma = 0 they evaluate at t = 1 (network_denoiser).
class Solver {
public:
    virtual ~Solver() = default;
    /// x at `from` -> x at `to`, same shape and type.
    virtual torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from,
                               const NoiseLevel& to, const Noise& noise) = 0;
};

using SolverFactory = std::function<std::unique_ptr<Solver>()>;

/// Ho et al. 2020: ancestral sampling with the posterior's variance, for any pair of levels.
std::unique_ptr<Solver> make_ddpm();
/// Song et al. 2021: eta = 0 is Euler on the probability-flow ODE, eta = 1 is ddpm.
std::unique_ptr<Solver> make_ddim(double eta);
/// Heun's second-order method on the probability-flow ODE (Karras et al. 2022, algorithm 1).
std::unique_ptr<Solver> make_heun();

/// A row of the table of solvers. `make` takes DDIM's eta; the others have no use for it.
struct SolverKind {
    std::function<std::unique_ptr<Solver>(double eta)> make;
    bool takes_eta = false;
    bool stochastic = false;  ///< with eta = 0
};
const Table<SolverKind>& solvers();

}  // namespace diffuse
