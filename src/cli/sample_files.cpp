#include <fmt/format.h>

#include <algorithm>

#include "cli/sample.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/data/csv.hpp"
#include "diffuse/plot/points.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse::cli {
namespace {

void check_files_of_points(const SampleCommand& options, const Columns& columns) {
    const bool shapes_figure = options.style != "auto" || !options.field.empty();
    if (!options.writes_table()) require_gnuplot();
    if (options.writes_table() && shapes_figure) {
        throw Error("--style and --field shape a figure; write one by --out FILE.png or FILE.svg");
    }
    const auto is_bounded = [](const Column& column) { return column.bounds.has_value(); };
    if (!options.field.empty() && (std::ssize(columns) != 2 || std::ranges::any_of(columns, is_bounded))) {
        throw Error("--field draws arrows in a plane without bounds; these points have others");
    }
}

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

/// A table, or a figure with the score at the noise levels of --field.
void write_points(const SampleCommand& options, const torch::Tensor& z, const Condition& condition,
                  const Model& model) {
    const Codec& codec = model.data.codec;
    if (!options.writes_table()) return write_figure(options.out, figure_of_points(options, z, condition, model));
    write_csv(options.out, {names(codec.columns), codec.decode(z)}, steps_of(codec.columns));
}

}  // namespace

bool SampleCommand::writes_table() const { return file_ending(out) == ".csv"; }

Files SampleCommand::files() const {
    return {{writes_table() ? "csv" : "png", out}, {"tensors", tensors}, {"trajectory", trajectory}};
}

void check_files(const SampleCommand& options, const DataSpec& data) {
    std::vector<std::string> of_points = {"field"};
    if (options.style != "auto") of_points.emplace_back("style");
    check_kind(options.given, data.shape, {"columns", "scale", "trajectory"}, of_points);
    if (data.shape.points) return check_files_of_points(options, data.codec.columns);
    if (file_ending(options.out) == ".png" || is_special(options.out)) return;
    throw Error(fmt::format("--out {}: images are written as .png", options.out));
}

void write_tensors(const SampleCommand& options, const torch::Tensor& x, const Condition& condition,
                   const PngTexts& origin, const DataSpec& data) {
    if (options.tensors.empty()) return;
    const bool is_points = data.shape.points;
    // without --clip-x0 a pixel may end a little outside
    auto samples = is_points ? data.codec.decode(x) : x.clamp(-1, 1);
    if (fit_float32(data.codec.columns)) samples = samples.to(torch::kFloat32);
    write_examples(options.tensors, {{{is_points ? "points" : "images", samples}}, {}}, condition, origin);
}

void write_shown(const SampleCommand& options, const torch::Tensor& x, const Condition& condition, const Layout& shown,
                 const PngTexts& origin, const Model& model) {
    if (model.data.shape.points) return write_points(options, x, condition, model);
    // without --clip-x0 a pixel may end a little outside
    const auto bytes = to_bytes(x.clamp(-1, 1));
    write_png(options.out, sheet(bytes, shown.columns, shown.scale), options.with_command(origin));
}

}  // namespace diffuse::cli
