#include "diffuse/run/sampling.hpp"

#include <ATen/Parallel.h>

#include "diffuse/base/progress.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse {

Sampler make_sampler(const SampleOptions& options, const Model& model, torch::Device device) {
    const bool clip = options.clip_x0.value_or(options.stochastic());
    return {.solver = [make = options.solver_kind().make, eta = options.eta.value_or(0)] { return make(eta); },
            .denoiser =
                [model, clip](std::atomic<int64_t>& evaluations, const Condition& condition) {
                    const Denoiser plain = denoiser(model, evaluations, condition);
                    return clip ? clip_x0(plain) : plain;
                },
            .grid = make_grid(options, model.schedule),
            .device = device,
            .threads = at::get_num_threads(),
            .max_in_flight = options.batch};
}

TimedSamples run_with_progress(const std::string& what, Sampler sampler, const torch::Tensor& x,
                               const std::string& trajectory) {
    const Stopwatch watch;
    const int64_t steps = int64_t(sampler.grid.size()) - 1, count = x.size(0);
    std::optional<Progress> progress(std::in_place, what, steps * count);
    // Groups advance on their own; their mean is what a reader of the line wants.
    sampler.progress = [&](int64_t done, int64_t total) { progress->update(done * steps * count / total); };
    std::vector<Frame> frames;
    if (!trajectory.empty()) {
        sampler.record = [&](const torch::Tensor& state, const torch::Tensor& x0) { frames.push_back({state, x0}); };
    }
    TimedSamples result{run(sampler, x)};
    result.seconds = watch.seconds();
    progress.reset();
    if (!trajectory.empty()) {
        const auto last = result.x.narrow(0, 0, frames.front().x.size(0));
        frames.push_back({last, last});
        write_trajectory(trajectory, frames);
    }
    return result;
}

}  // namespace diffuse
