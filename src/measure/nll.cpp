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
Tensor over_groups(const std::string& what, const Tensor& bytes, torch::Device device,
                   const std::function<Tensor(const Tensor& some, int64_t first)>& measure) {
    const int64_t count = bytes.size(0);
    auto result = torch::empty({count}, torch::kFloat64);
    std::atomic<int64_t> done{0};
    Progress progress(what, count);
    for_each_group(count, kGroup, device, at::get_num_threads(), [&](int64_t first, int64_t size) {
        const auto measured = measure(group_of(bytes, first, kGroup).to(device), first);
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
    const Denoiser estimate = denoiser(model);
    const int64_t start = grid_start(model.schedule, options.max_ratio);
    const Grid chain = normalised(make_grid(model.schedule, "uniform", start, options.max_ratio));
    const Grid grid = normalised(likelihood_grid(model.schedule, options.ode_steps, options.max_ratio));
    const auto measured = [&](const std::string& what, const auto& measure) {
        return over_groups(what, bytes, device, [&](const Tensor& some, int64_t first) {
            return measure(some, Draws{options.seed, first});
        });
    };
    Nll nll{.start = start, .ode_steps = std::ssize(grid) - 1};
    nll.dequantised_ode = measured("ODE, dequantised: image", [&](const Tensor& some, const Draws& draws) {
        const auto log_density = ode_log_density(estimate, grid, dequantised(some, draws), options.probes, draws);
        return bits_per_dim(log_density, some[0].numel());
    });
    nll.ode = measured("ODE from x_1: image", [&](const Tensor& some, const Draws& draws) {
        return ode_bound(estimate, chain, grid, some, options.probes, draws);
    });
    nll.variational = measured("variational bound: image", [&](const Tensor& some, const Draws& draws) {
        return variational_bound(estimate, chain, some, draws).total();
    });
    return nll;
}

}  // namespace diffuse
