// The solver that docs/extending.md shows how to write, compiled from there.

#include "recipe_1.inc"

#include "diffuse/diffusion/schedule.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

double error_after(int64_t steps) {
    const MixtureData data;
    const Grid grid = spaced_in_ratio(3, 0.1, steps);
    const auto x = sampling_noise(1, 0, 64, {2}, 0).to(torch::kFloat64);
    const auto end = integrate(*midpoint_solver().make({}), data.denoiser(), x, grid, no_noise, ignore_step);
    return (end - data.flow(x, grid.front(), grid.back())).abs().max().item<double>();
}

TEST(Extending, TheRecipesSolverIsOfOrderTwo) {
    EXPECT_NEAR(std::log2(error_after(100) / error_after(200)), 2, 0.15);  // as the solvers' own orders
}

TEST(Extending, TheRecipesSolverWorksWhereAllDoWithAsManyEvaluationsAsItsRowSays) {
    const Sampler sampler{.solver = [] { return midpoint_solver().make({}); },
                          .denoiser = closed_form(GaussianData{}.denoiser()),
                          .grid = make_grid(make_schedule({}), "uniform", 10)};
    // The step to sigma = 0 has one evaluation.
    EXPECT_EQ(run(sampler, sampling_noise(1, 0, 3, {1, 28, 28}, 0)).nfe, 9 * midpoint_solver().evaluations + 1);
}

}  // namespace
}  // namespace diffuse
