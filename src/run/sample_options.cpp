#include "diffuse/run/sample_options.hpp"

#include <fmt/format.h>

#include <limits>

#include "diffuse/run/model.hpp"

namespace diffuse {
namespace {

constexpr int64_t kDefaultSteps = 20;

}  // namespace

const SolverKind& SampleOptions::solver_kind() const { return look_up("solver", solvers(), solver); }

bool SampleOptions::stochastic() const { return solver_kind().stochastic || eta.value_or(0) > 0; }

Fields fields(SampleOptions& o) {
    using Integer = Number<std::optional<int64_t>>;
    using Real = Number<std::optional<double>>;
    Fields all = {
        {"solver", Choice{&o.solver, names(solvers())}, "solver"},
        {.key = "steps",
         .value = Integer{&o.steps, 1, 100'000},
         .meaning = "steps of the grid",
         .by_default = "20, of ddpm every level"},
        {"nfe", Integer{&o.nfe, 1, 1'000'000},
         "largest number of network evaluations of an image, which decides the steps"},
        {"spacing", Choice{&o.spacing, spacing_names()}, "spacing of the grid's levels"},
        {.key = "eta", .value = Real{&o.eta, 0, 1}, .meaning = "ddim: share of ddpm's noise", .by_default = "0"},
        {.key = "clip_x0",
         .value = &o.clip_x0,
         .meaning = "clamp the predicted image to [-1, 1] at each step",
         .by_default = "for ddpm and eta above 0"},
        {.key = "max_ratio",
         .value = Real{&o.max_ratio, 0, std::numeric_limits<double>::infinity()},
         .meaning = "largest sigma / alpha of a grid, where it begins; inf: at T",
         .by_default = "that of T where it is at most 200 or pure noise on purpose, else 80"},
        {"weights", Choice{&o.weights, weights_names()}, "averaged or raw weights"},
        {"batch", Number<int64_t>{&o.batch, 0, 1'000'000},
         "images worked on at once, for less memory; 0: as many as keep the machine busy (256 on a GPU); on the CPU in "
         "groups of 8, and never changes a picture; on a GPU another number may change their last digits"}};
    const auto only_stochastic = [](const Field& field) { return field.key == "eta" || field.key == "clip_x0"; };
    if (o.direction == Direction::kEncoding) std::erase_if(all, only_stochastic);
    return all;
}

void check(const SampleOptions& options) {
    if (options.steps && options.nfe) throw Error("both steps and nfe are given; leave one of them out");
    if (options.eta && !options.solver_kind().takes_eta) {
        throw Error(fmt::format("eta belongs to ddim; the solver is {}", options.solver));
    }
    if (options.direction == Direction::kEncoding && options.stochastic()) {
        throw Error(
            fmt::format("the solver {} is stochastic and has no way back; take a deterministic one", options.solver));
    }
}

Grid make_grid(const SampleOptions& options, const Schedule& schedule) {
    const SolverKind& kind = options.solver_kind();
    const int64_t all = grid_start(schedule, options.max_ratio);
    const int64_t by_default = kind.stochastic ? all : std::min(kDefaultSteps, all);
    const int64_t steps = options.nfe ? std::min(all, steps_for(kind, *options.nfe, options.direction))
                                      : options.steps.value_or(by_default);
    return make_grid(schedule, options.spacing, steps, options.max_ratio);
}

}  // namespace diffuse
