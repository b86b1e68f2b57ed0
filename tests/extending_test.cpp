// The solver that docs/extending.md shows how to write, compiled from there (tests/CMakeLists.txt).

#include "diffuse/diffusion/schedule.hpp"
#include "testing.hpp"

namespace diffuse {

std::unique_ptr<Solver> make_midpoint();

namespace {

double error_after(int64_t steps) {
    const MixtureData data;
    const Grid grid = spaced_in_ratio(3, 0.1, steps);
    const auto x = sampling_noise(1, 0, 64, {2}, 0).to(torch::kFloat64);
    const auto end = integrate(*make_midpoint(), data.denoiser(), x, grid, no_noise, ignore_step);
    return (end - data.flow(x, grid.front(), grid.back())).abs().max().item<double>();
}

TEST(Extending, TheRecipesSolverIsOfOrderTwo) {
    EXPECT_NEAR(std::log2(error_after(100) / error_after(200)), 2, 0.15);  // as the solvers' own orders
}

TEST(Extending, TheRecipesSolverWorksWhereAllDo) {
    const Sampler sampler{.solver = make_midpoint,
                          .denoiser = closed_form(GaussianData{}.denoiser()),
                          .grid = make_grid(make_schedule({}), "uniform", 10)};
    EXPECT_EQ(run(sampler, sampling_noise(1, 0, 3, {1, 28, 28}, 0)).nfe, 19);
}

}  // namespace
}  // namespace diffuse
