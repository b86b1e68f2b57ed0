#include "diffuse/run/run_writer.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/data/csv.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/plot/sheet.hpp"
#include "diffuse/run/sampling.hpp"

namespace diffuse {
namespace {

constexpr int64_t kMaxPreviewImages = 64, kPreviewColumns = 8, kMaxPreviewColumns = 16, kPreviewSteps = 25,
                  kPreviewPoints = 2000;

/// As many that each column shows one class, where that is possible.
int64_t preview_columns(int64_t classes) {
    if (classes == 0 || classes > kMaxPreviewColumns) return kPreviewColumns;
    return classes * std::max<int64_t>(1, kPreviewColumns / classes);
}

/// How many images, in whole rows, or points.
int64_t preview_count(const DataSpec& data) {
    const int64_t columns = preview_columns(data.condition.classes.count);
    return data.shape.points ? kPreviewPoints : kMaxPreviewImages / columns * columns;
}

SampleOptions preview_options(const Schedule& schedule) {
    return {.solver = "ddim", .steps = std::min(kPreviewSteps, grid_start(schedule))};
}

/// The numbers of the first training examples, or the classes in turn.
Condition preview_condition(const Preview& preview, const SampleOptions& options, int64_t count) {
    const Condition& known = preview.condition;
    if (!known.numbers.defined()) return preview.averaged.data.condition.of_classes(options.classes, count);
    return known.rows(torch::arange(count).remainder(known.size()));
}

/// Nothing of the command line, so that a run that was resumed has the same files.
PngTexts preview_texts(const Preview& preview, const SampleOptions& options) {
    const Checkpoint& checkpoint = preview.checkpoint;
    PngTexts texts = origin_of(options, *options.steps, checkpoint.data.shape, identity(checkpoint, options.weights));
    texts.emplace_back("seed", std::to_string(checkpoint.config.seed));
    return texts;
}

/// Draws float32 [N, ...] as a network sees them, by all processes. `on_group` is called as groups advance.
torch::Tensor draw_preview(const Preview& preview, const SampleOptions& options, int64_t threads,
                           const std::function<void()>& on_group) {
    const DataSpec& data = preview.averaged.data;
    const int64_t count = preview_count(data);
    Sampler sampler = make_sampler(options, preview.averaged);
    sampler.shared = true;
    sampler.condition = preview_condition(preview, options, count);
    sampler.threads = threads;
    sampler.progress = [&](int64_t, int64_t) { on_group(); };
    const auto seed = uint64_t(preview.checkpoint.config.seed);
    return run(sampler, sampling_noise(seed, 0, count, data.shape.sizes(), /*draw=*/0)).x;
}

/// Points as rows, images in a grid.
void write_preview(const std::filesystem::path& path, const Preview& preview, const SampleOptions& options,
                   const torch::Tensor& samples) {
    const DataSpec& data = preview.averaged.data;
    const auto values = data.codec.decode(samples);
    if (data.shape.points) return write_csv(path, {names(data.codec.columns), values}, steps_of(data.codec.columns));
    const int64_t columns = preview_columns(data.condition.classes.count);
    const int64_t scale = sheet_scale({}, data.shape.height, data.shape.width);
    write_png(path, sheet(values, columns, scale), preview_texts(preview, options));
}

class RunWriter {
public:
    explicit RunWriter(const RunFolder& folder) : folder_(folder), threads_(at::get_num_threads()) {}

    void start(const Config& config, const std::optional<Checkpoint>& start) {
        steps_ = config.train.steps;
        seconds_before_ = folder_.trim_metrics(start ? start->step : 0);
        // First of all files, so that whatever is killed from here on can be resumed.
        write_file(folder_.path() / kConfigName, to_text(to_json(config), 2) + "\n");
        metrics_.emplace(folder_.path() / kMetricsName);
    }

    void show(const TrainingStep& step) {
        if (std::isfinite(step.loss)) shown_ = step;
        if (!progress_) progress_.emplace("training: step", steps_, step.step);
        progress_->update(step.step, [&] { return status(); });
    }

    void append(Metrics line) {
        line.wall_seconds += seconds_before_;
        const std::string text = to_text(to_json(line));
        metrics_->append(text);
        log::debug(text);
    }

    void preview(const Preview& preview) {
        const int64_t step = preview.checkpoint.step;
        const SampleOptions options = preview_options(preview.averaged.schedule);
        const auto on_group = [&] { progress_->update(step, [] { return "drawing samples"; }); };
        const auto samples = draw_preview(preview, options, threads_, on_group);
        const bool points = preview.averaged.data.shape.points;
        const auto path = folder_.path() / kSamplesName / step_name(step, points ? ".csv" : ".png");
        write_preview(path, preview, options, samples);
        log::debug(fmt::format("saved {}", display_path(path)));
    }

    void save(const Checkpoint& checkpoint) {
        metrics_->flush_to_disk();  // first, so that the lines up to a checkpoint are there whenever it is
        folder_.save(checkpoint, checkpoint.config.train.keep_checkpoints);
        const auto path = folder_.path() / kCheckpointName;
        log::debug(fmt::format("saved {} of step {}", display_path(path), checkpoint.step));
    }

private:
    std::string status() const {
        if (shown_.step == 0) return "";
        return fmt::format("loss {:.4f}  {:.0f} {}s/s", shown_.loss, shown_.images_per_second, shown_.noun);
    }

    const RunFolder& folder_;
    const int64_t threads_;
    int64_t steps_ = 0;
    double seconds_before_ = 0;  // of training, before it was resumed
    std::optional<LineFile> metrics_;
    std::optional<Progress> progress_;
    TrainingStep shown_;  // the latest with a finite loss
};

}  // namespace

TrainingObserver run_writer(const RunFolder& folder) {
    const auto writer = std::make_shared<RunWriter>(folder);
    return {.on_start = [=](const Config& config, const auto& start) { writer->start(config, start); },
            .on_step = [=](const TrainingStep& step) { writer->show(step); },
            .on_metrics = [=](const Metrics& line) { writer->append(line); },
            .on_preview = [=](const Preview& preview) { writer->preview(preview); },
            .on_checkpoint = [=](const Checkpoint& checkpoint) { writer->save(checkpoint); }};
}

TrainingObserver preview_helper() {
    return {.on_preview = [threads = at::get_num_threads()](const Preview& preview) {
        draw_preview(preview, preview_options(preview.averaged.schedule), threads, [] {});
    }};
}

}  // namespace diffuse
