#include "diffuse/run/sampling.hpp"

#include <ATen/Parallel.h>

#include "diffuse/base/json.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse {

namespace {

bool clips_x0(const SampleOptions& options) { return options.clip_x0.value_or(options.stochastic()); }

}  // namespace

Sampler make_sampler(const SampleOptions& options, const Model& model, torch::Device device) {
    const bool clip = clips_x0(options);
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

PngTexts origin_of(const SampleOptions& options, int64_t steps, const Checkpoint& checkpoint) {
    SampleOptions resolved = options;
    resolved.steps = steps;
    resolved.nfe.reset();
    resolved.clip_x0 = clips_x0(options);
    const auto all = to_json(fields(resolved));
    nlohmann::ordered_json json;
    for (const auto& [key, value] : all.items()) {
        if (!value.is_null() && key != "batch") json[key] = value;  // batch is the machine's affair
    }
    return {{kWeightsKey, identity(checkpoint, options.weights)}, {kSamplingKey, to_text(json)}};
}

TimedSamples run_with_progress(const std::string& what, Sampler sampler, const torch::Tensor& x,
                               const TrajectoryFile& trajectory) {
    const Stopwatch watch;
    const int64_t steps = int64_t(sampler.grid.size()) - 1, count = x.size(0);
    std::optional<Progress> progress(std::in_place, what, steps * count);
    // Groups advance on their own; their mean is what a reader of the line wants.
    sampler.progress = [&](int64_t done, int64_t total) { progress->update(done * steps * count / total); };
    std::vector<Frame> frames;
    if (!trajectory.path.empty()) {
        sampler.record = [&](const torch::Tensor& state, const torch::Tensor& x0) { frames.push_back({state, x0}); };
    }
    TimedSamples result{run(sampler, x)};
    result.seconds = watch.seconds();
    progress.reset();
    if (!trajectory.path.empty()) {
        const auto last = result.x.narrow(0, 0, frames.front().x.size(0));
        frames.push_back({last, last});
        write_trajectory(trajectory.path, frames, sheet_scale(trajectory.scale, x.size(2), x.size(3)),
                         trajectory.texts);
    }
    return result;
}

}  // namespace diffuse
