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

/// What guidance leads away from: another network of the same examples, or this one without the class or with another.
using Reference = std::function<Denoiser(const Condition& condition, const Counter& evaluations)>;

void check_guide(const SampleOptions& options, const DataSpec& guide, const DataSpec& own) {
    const auto numbers = [](const DataSpec& data) { return data.condition.numbers.size(); };
    const auto classes = [](const DataSpec& data) { return data.condition.classes.count; };
    if (guide.shape == own.shape && classes(guide) == classes(own) && numbers(guide) == numbers(own)) return;
    throw Error(fmt::format(
        "{}: the guide draws {} of {} classes with {} numbers as their condition, the network {} of {} with {}",
        options.guide, to_string(guide.shape), classes(guide), numbers(guide), to_string(own.shape), classes(own),
        numbers(own)));
}

/// Not set where there is no guidance. Throws Error where there is nothing to lead away from.
Reference reference_of(const SampleOptions& options, const Model& model, const std::optional<Model>& guide) {
    if (options.guidance == 1) return {};
    if (guide) {
        check_guide(options, guide->data, model.data);
        return guide->denoiser;
    }
    if (model.data.condition.classes.count == 0) {
        throw Error(
            fmt::format("sample.guidance {}: the network was trained without labels, so there is nothing to lead away "
                        "from; take another checkpoint as sample.guide",
                        options.guidance));
    }
    return [=, negative = negative_class(options, model.data.condition)](const Condition& condition,
                                                                         const Counter& evaluations) {
        const auto to_negative = [&](const torch::Tensor& labels) { return torch::full_like(labels, *negative); };
        return model.denoiser(negative ? condition.each(to_negative) : Condition(), evaluations);
    };
}

/// The denoiser of a group of examples: the network's, guided, thresholded and clipped as the options say.
StepDenoiser assembled(const SampleOptions& options, const Model& model, const Reference& reference,
                       const Condition& condition, const Counter& evaluations) {
    const auto bounded = [clip = clips_x0(options, model.data.shape),
                          percentile = options.threshold](Denoiser denoiser) {
        if (percentile) denoiser = thresholded(denoiser, *percentile);
        return clip ? clip_x0(denoiser) : denoiser;
    };
    const Denoiser plain = model.denoiser(condition, evaluations);
    if (!reference) return bounded(plain);
    const Denoiser with =
        bounded(guided(plain, reference(condition, evaluations), options.guidance, options.guidance_rescale));
    const bool has_condition = condition.defined();
    return StepDenoiser([=, without = bounded(plain)](const NoiseLevel& from, const NoiseLevel& to) {
        return is_guided(options, has_condition, from, to) ? with : without;
    });
}

}  // namespace

std::optional<Model> load_guide(const SampleOptions& options, torch::Device device) {
    if (options.guidance == 1 || options.guide.empty()) return std::nullopt;
    return make_model(load_checkpoint(options.guide), options.weights, device);
}

Sampler make_sampler(const SampleOptions& options, const Model& model, const std::optional<Model>& guide) {
    check_bounds(options, model.data.shape);
    const Grid grid = make_grid(options, model.schedule, model.data.shape.numel());
    SolverOptions of_solver = options.solver_options;
    of_solver.schedule = std::make_shared<Schedule>(model.schedule);
    of_solver.steps = std::ssize(grid) - 1;
    const Reference reference = reference_of(options, model, guide);
    return {.solver = [make = options.solver_kind().make, of_solver] { return make(of_solver); },
            .denoiser =
                [=](const Condition& condition, const Counter& evaluations) {
                    return assembled(options, model, reference, condition, evaluations);
                },
            .grid = grid,
            .alone = options.solver_kind().adaptive,
            .device = model.device,
            .threads = at::get_num_threads(),
            .max_in_flight = options.batch};
}

PngTexts origin_of(const SampleOptions& options, int64_t steps, const ExampleShape& shape, const std::string& network) {
    SampleOptions resolved = options;
    resolved.steps = steps;
    resolved.nfe.reset();
    resolved.clip_x0 = clips_x0(options, shape);
    if (!options.guide.empty()) resolved.guide = display_path(options.guide);
    auto all = to_json(fields(resolved));
    if (options.direction == Direction::kEncoding) all.erase("class");  // latents have their classes beside them
    nlohmann::ordered_json json;
    for (const auto& [key, value] : all.items()) {
        if (!value.is_null() && key != "batch") json[key] = value;  // batch is the machine's affair
    }
    return {{kWeightsKey, network}, {kSamplingKey, to_text(json)}};
}

TimedSamples run_with_progress(const std::string& what, Sampler sampler, const torch::Tensor& x,
                               const TrajectoryFile& trajectory) {
    const Stopwatch watch;
    const int64_t steps = int64_t(sampler.grid.size()) - 1, count = x.size(0);
    std::optional<Progress> progress(std::in_place, what, steps * count);
    // Groups advance on their own; their mean is what a reader of the line wants.
    sampler.shared = true;
    sampler.progress = [&](int64_t done, int64_t total) { progress->update(done * steps * count / total); };
    std::vector<Frame> frames;
    if (!trajectory.path.empty()) {
        sampler.record = [&](const torch::Tensor& state, const torch::Tensor& x0) { frames.push_back({state, x0}); };
    }
    TimedSamples result{run(sampler, x)};
    result.seconds = watch.seconds();
    progress.reset();
    if (!frames.empty()) {  // only the first process has the first examples
        const auto last = result.x.narrow(0, 0, frames.front().x.size(0));
        frames.push_back({last, last});
        write_trajectory(trajectory.path, frames, sheet_scale(trajectory.scale, x.size(2), x.size(3)),
                         trajectory.texts);
    }
    return result;
}

}  // namespace diffuse
