#include "diffuse/measure/nll.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <atomic>

#include "diffuse/base/error.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/solve/likelihood.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int64_t kGroup = 16;

/// What `measure` says of each image, with a progress line called `what`.
Tensor over_groups(const std::string& what, const Tensor& bytes, int64_t group, torch::Device device,
                   const std::function<Tensor(const Tensor& some, int64_t first)>& measure) {
    const int64_t count = bytes.size(0);
    auto result = torch::empty({count}, torch::kFloat64);
    std::atomic<int64_t> done{0};
    Progress progress(what, count);
    for_each_group(count, group, device, at::get_num_threads(), [&](int64_t first, int64_t size) {
        const auto measured = measure(group_of(bytes, first, group).to(device), first);
        result.narrow(0, first, size).copy_(measured.narrow(0, 0, size));
        progress.update(done += size);
    });
    if (!result.isfinite().all().item<bool>()) {
        throw Error(
            fmt::format("{}: not all bits are finite; more --ode-steps, or a smaller --max-ratio, may help", what),
            kRunFailed);
    }
    return result;
}

}  // namespace

Fields fields(NllOptions& options) {
    return {{"ode_steps", Number<int64_t>{&options.ode_steps, 1, 100'000}, "nll: steps of heun along the ODE"},
            {"probes", Number<int64_t>{&options.probes, 1, 10'000}, "nll: vectors of the trace estimate"}};
}

Nll measure_nll(const Model& model, const Tensor& bytes, const NllOptions& options, torch::Device device) {
    const int64_t start = grid_start(model.schedule, options.max_ratio);
    const Grid chain = normalised(make_grid(model.schedule, "uniform", start, options.max_ratio));
    const int64_t steps = options.tolerance ? 1 : options.ode_steps;
    const Grid grid = normalised(likelihood_grid(model.schedule, steps, options.max_ratio));
    // Examples that are stepped together depend on one another.
    const int64_t group = options.tolerance ? 1 : kGroup;
    const auto measured = [&](const std::string& what, int64_t& nfe, const auto& measure) {
        std::atomic<int64_t> evaluations{0};
        const Denoiser estimate = denoiser(model, evaluations);
        const auto result = over_groups(what, bytes, group, device, [&](const Tensor& some, int64_t first) {
            return measure(estimate, some, Draws{options.seed, first});
        });
        nfe = evaluations / ((bytes.size(0) + group - 1) / group * group);
        return result;
    };
    Nll nll{.start = start, .ode_steps = std::ssize(grid) - 1};
    nll.dequantised_ode = measured("ODE, dequantised: image", nll.dequantised_nfe,
                                   [&](const Denoiser& estimate, const Tensor& some, const Draws& draws) {
                                       const auto log_density =
                                           ode_log_density(estimate, grid, dequantised(some, draws), options.probes,
                                                           draws, options.tolerance);
                                       return bits_per_dim(log_density, some[0].numel());
                                   });
    nll.ode = measured("ODE from x_1: image", nll.ode_nfe,
                       [&](const Denoiser& estimate, const Tensor& some, const Draws& draws) {
                           return ode_bound(estimate, chain, grid, some, options.probes, draws, options.tolerance);
                       });
    nll.variational = measured("variational bound: image", nll.variational_nfe,
                               [&](const Denoiser& estimate, const Tensor& some, const Draws& draws) {
                                   return variational_bound(estimate, chain, some, draws).total();
                               });
    return nll;
}

PointDensity measure_point_density(const Model& model, const Tensor& z, const Condition& condition,
                                   const NllOptions& options, torch::Device device) {
    constexpr int64_t kPointsAtOnce = 1024, kExactTrace = 0;
    const int64_t steps = options.tolerance ? 1 : options.ode_steps;
    const Grid grid = normalised(likelihood_grid(model.schedule, steps, options.max_ratio));
    const int64_t group = options.tolerance ? 1 : kPointsAtOnce;
    std::atomic<int64_t> evaluations{0};
    PointDensity density{.start = grid_start(model.schedule, options.max_ratio), .ode_steps = std::ssize(grid) - 1};
    density.log_density = over_groups("ODE: point", z, group, device, [&](const Tensor& some, int64_t first) {
        const Condition told = condition.defined() ? group_of(condition, first, group).to(device) : Condition();
        return ode_log_density(denoiser(model, evaluations, told), grid, some.to(torch::kFloat64), kExactTrace,
                               Draws{options.seed, first}, options.tolerance);
    });
    density.nfe = evaluations / ((z.size(0) + group - 1) / group * group);
    return density;
}

}  // namespace diffuse
