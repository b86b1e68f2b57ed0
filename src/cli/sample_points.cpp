#include "cli/sample.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "diffuse/base/file.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/data/csv.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/plot/points.hpp"

namespace diffuse::cli {

namespace {

Source network_source(const SampleCommand& options, torch::Device device) {
    const auto checkpoint = std::make_shared<const Checkpoint>(load_to_run(options.checkpoint, device));
    return {.name = checkpoint->name,
            .sample = checkpoint->config.sample,
            .data = checkpoint->data,
            .schedule = make_schedule(checkpoint->config.schedule),
            .model = [=](const std::string& weights) { return make_model(*checkpoint, weights, device); },
            .identity = [=](const std::string& weights) { return diffuse::identity(*checkpoint, weights); },
            .made_from = {"checkpoint", display_path(checkpoint_file(options.checkpoint))}};
}

/// Of no class, so without guidance.
Source analytic_source(const SampleCommand& options) {
    const bool by_config = !options.config.empty();
    const Config config =
        by_config ? load_config(options.config, options.settings) : load_checkpoint(options.checkpoint).config;
    const Dataset data = load_dataset(config.dataset, Split::kTrain);
    const Model model = analytic_model(options.analytic, config, data);
    SampleOptions sample = config.sample;
    sample.guidance = 1;
    return {.name = by_config ? options.config : options.checkpoint,
            .sample = without_idle(sample),
            .data = model.data,
            .schedule = model.schedule,
            .model = [=](const std::string&) { return model; },
            .identity = [=](const std::string&) { return "the denoiser " + options.analytic + " in closed form"; },
            .made_from = {"data", fingerprint(data)}};
}

}  // namespace

Source load_source(const SampleCommand& options, torch::Device device) {
    return options.analytic.empty() ? network_source(options, device) : analytic_source(options);
}

void check_kind_of_files(const SampleCommand& options, const DataSpec& data) {
    const std::string ending = file_ending(options.out);
    if (!data.shape.points) {
        if (ending != ".png" && !is_special(options.out)) {
            throw Error(fmt::format("--out {}: images are written as .png", options.out));
        }
        if (options.style != "auto" || !options.field.empty())
            throw Error("--style and --field are of points, not of images");
        return;
    }
    for (const char* key : {"columns", "scale", "trajectory"}) {
        if (options.given.contains(key)) throw Error(fmt::format("--{} is of images, and these are points", key));
    }
    if (ending != ".csv") require_gnuplot();
    if (ending == ".csv" && (options.style != "auto" || !options.field.empty())) {
        throw Error("--style and --field shape a figure; write one by --out FILE.png or FILE.svg");
    }
    if (options.field.empty()) return;
    const auto is_bounded = [](const Column& column) { return column.bounds.has_value(); };
    const Columns& columns = data.codec.columns;
    if (std::ssize(columns) != 2 || std::ranges::any_of(columns, is_bounded)) {
        throw Error("--field draws arrows in a plane without bounds; these points have others");
    }
}

namespace {

/// The score of noisy data at sigma / alpha = `ratio` and alpha = 1, in the columns' units.
torch::Tensor score_at(const Denoiser& denoiser, const Model& model, const torch::Tensor& at, double ratio) {
    std::vector<double> stds;
    for (const auto& column : model.data.codec.columns) stds.push_back(column.std);
    const auto z = model.data.codec.encode(at).to(torch::kFloat64).to(model.device);
    const auto eps = denoiser(z, level_of_ratio(ratio, /*alpha=*/1)).eps.cpu();
    return eps / -ratio / torch::tensor(stds, torch::kFloat64);
}

Figure figure_of_points(const SampleCommand& options, const torch::Tensor& z, const Condition& condition,
                        const Model& model) {
    constexpr int64_t kManyPoints = 10'000;
    const std::string style = options.style != "auto" ? options.style : z.size(0) > kManyPoints ? "density" : "scatter";
    const Codec& codec = model.data.codec;
    const auto columns = names(codec.columns);
    Figure figure{
        options.analytic.empty() ? "Samples" : "Samples of the denoiser " + options.analytic,
        point_panels(codec.decode(z), columns, style == "scatter" ? PointStyle::kScatter : PointStyle::kDensity)};
    for (const double ratio : options.field) {
        const auto noise = sampling_noise(uint64_t(options.seed), 0, z.size(0), z.sizes().slice(1), step_draw(0, 0));
        const auto field = [&](const torch::Tensor& at) {
            const Condition same = condition.rows(torch::zeros({at.size(0)}, torch::kInt64)).to(model.device);
            return score_at(model.denoiser(same, {}), model, at, ratio);
        };
        figure.panels.push_back(
            field_panel(codec.decode(z + ratio * noise), columns, field, fmt::format("score at sigma = {:g}", ratio)));
    }
    return figure;
}

}  // namespace

void write_points(const SampleCommand& options, const torch::Tensor& z, const Condition& condition,
                  const Model& model) {
    const Codec& codec = model.data.codec;
    if (file_ending(options.out) == ".csv") {
        return write_csv(options.out, {names(codec.columns), codec.decode(z)}, /*as_float32=*/true);
    }
    write_figure(options.out, figure_of_points(options, z, condition, model));
}

}  // namespace diffuse::cli
