#include "diffuse/run/sampling.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/diffusion/guidance.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse {
namespace {

/// Points have no bounds.
bool clips_x0(const SampleOptions& options, const ExampleShape& shape) {
    return options.clip_x0.value_or(options.stochastic() && !shape.points);
}

/// What guidance leads away from: another network, or this one without the class or with another. Throws Error where
/// there is none.
struct Reference {
    Model model;
    bool has_condition;                     ///< the examples' own
    std::optional<int64_t> negative_class;  ///< instead of none

    Denoiser denoiser(std::atomic<int64_t>& evaluations, const Condition& condition) const {
        if (has_condition) return diffuse::denoiser(model, evaluations, condition);
        if (!negative_class) return diffuse::denoiser(model, evaluations);
        return diffuse::denoiser(model, evaluations, torch::full_like(condition, *negative_class));
    }
};

std::optional<Reference> reference_of(const SampleOptions& options, const Model& model, torch::Device device) {
    if (options.guidance == 1) return std::nullopt;
    if (!options.guide.empty()) {
        const Model guide = make_model(load_checkpoint(options.guide), options.weights, device);
        if (guide.shape != model.shape || guide.classes != model.classes || guide.given != model.given) {
            throw Error(
                fmt::format("{}: the guide draws {} of {} classes, told {} numbers, the network {} of {}, told {}",
                            options.guide, to_string(guide.shape), guide.classes, guide.given, to_string(model.shape),
                            model.classes, model.given));
        }
        return Reference{guide, /*has_condition=*/true, std::nullopt};
    }
    if (model.classes == 0) {
        throw Error(
            fmt::format("guidance {}: the network was trained without labels, so there is nothing to lead away "
                        "from; take another checkpoint as guide",
                        options.guidance));
    }
    if (options.negative_class.value_or(0) >= model.classes) {
        throw Error(
            fmt::format("negative_class {}: the network knows 0 to {}", *options.negative_class, model.classes - 1));
    }
    return Reference{model, /*has_condition=*/false, options.negative_class};
}

/// The denoiser of a group of examples: the network's, guided, thresholded and clipped as the options say.
StepDenoiser assembled(const SampleOptions& options, const Model& model, const std::optional<Reference>& reference,
                       std::atomic<int64_t>& evaluations, const Condition& condition) {
    const auto bounded = [clip = clips_x0(options, model.shape), percentile = options.threshold](Denoiser denoiser) {
        if (percentile) denoiser = thresholded(denoiser, *percentile);
        return clip ? clip_x0(denoiser) : denoiser;
    };
    const Denoiser plain = denoiser(model, evaluations, condition);
    if (!reference || (!condition.defined() && !reference->has_condition)) return bounded(plain);
    const Denoiser with =
        bounded(guided(plain, reference->denoiser(evaluations, condition), options.guidance, options.guidance_rescale));
    if (!options.guidance_interval) return with;
    const RatioInterval interval{options.guidance_interval->first, options.guidance_interval->second};
    return StepDenoiser([=, without = bounded(plain)](const NoiseLevel& from, const NoiseLevel& to) {
        return interval.holds(from, to) ? with : without;
    });
}

}  // namespace

Sampler make_sampler(const SampleOptions& options, const Model& model, torch::Device device) {
    check_bounds(options, model.shape);
    const Grid grid = make_grid(options, model.schedule, model.shape.numel());
    SolverOptions of_solver(options.eta.value_or(options.solver_kind().default_eta));
    of_solver.schedule = std::make_shared<Schedule>(model.schedule);
    of_solver.steps = std::ssize(grid) - 1;
    of_solver.snr = options.snr.value_or(of_solver.snr);
    of_solver.churn = options.churn.value_or(of_solver.churn);
    of_solver.tolerance = options.tolerance.value_or(of_solver.tolerance);
    return {.solver = [make = options.solver_kind().make, of_solver] { return make(of_solver); },
            .denoiser =
                [options, model, reference = reference_of(options, model, device)](std::atomic<int64_t>& evaluations,
                                                                                   const Condition& condition) {
                    return assembled(options, model, reference, evaluations, condition);
                },
            .grid = grid,
            .device = device,
            .threads = at::get_num_threads(),
            .max_in_flight = options.batch};
}

PngTexts origin_of(const SampleOptions& options, int64_t steps, const Checkpoint& checkpoint) {
    SampleOptions resolved = options;
    resolved.steps = steps;
    resolved.nfe.reset();
    resolved.clip_x0 = clips_x0(options, checkpoint.shape);
    if (!options.guide.empty()) resolved.guide = display_path(options.guide);
    auto all = to_json(fields(resolved));
    if (options.direction == Direction::kEncoding) all.erase("class");  // latents have their classes beside them
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
