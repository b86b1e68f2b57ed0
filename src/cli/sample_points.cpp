#include "cli/sample.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <sstream>

#include "diffuse/base/file.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/data/csv.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/plot/points.hpp"

namespace diffuse::cli {

Source load_source(const SampleCommand& options, torch::Device device) {
    if (options.analytic.empty()) return {load_to_run(options.checkpoint, device), std::nullopt};
    const bool by_config = !options.config.empty();
    Source source{{.config = by_config ? load_config(options.config, options.settings)
                                       : load_checkpoint(options.checkpoint).config},
                  std::nullopt};
    Checkpoint& checkpoint = source.checkpoint;
    const Dataset data = load_dataset(checkpoint.config.dataset, Split::kTrain);
    if (data.given.defined()) throw Error("--analytic: no denoiser in closed form is told numbers beside");
    checkpoint.config.net.classes = 0;
    checkpoint.config.sample.guidance = 1;  // of no class
    checkpoint.config.sample = without_idle(checkpoint.config.sample);
    checkpoint.shape = data.shape();
    checkpoint.columns = data.columns;
    checkpoint.name = by_config ? options.config : options.checkpoint;
    checkpoint.training.data = fingerprint(data);
    source.exact = analytic_model(options.analytic, checkpoint.config, data);
    return source;
}

Condition given_numbers(const SampleCommand& options, const Checkpoint& checkpoint, int64_t count) {
    const auto known = names(checkpoint.given_columns);
    if (known.empty()) {
        if (options.given.empty()) return {};
        throw Error("--given: the network is told no numbers");
    }
    std::map<std::string, double> given;
    std::istringstream parts(options.given);
    for (std::string part; std::getline(parts, part, ',');) {
        const size_t equals = std::min(part.find('='), part.size());
        const std::string name = part.substr(0, equals), text = part.substr(std::min(equals + 1, part.size()));
        if (std::ranges::find(known, name) == known.end())
            throw Error("--given: " + unknown_name("column", name, known));
        double value = 0;
        const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (problem != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || text.empty()) {
            throw Error(fmt::format("--given: '{}' is not {}=NUMBER", part, name));
        }
        if (!given.emplace(name, value).second) throw Error(fmt::format("--given: {} is given twice", name));
    }
    std::vector<double> row;
    for (const auto& name : known) {
        if (!given.contains(name)) {
            throw Error(
                fmt::format("the network is told {}: give a number for each by --given {}=NUMBER,...; {} is "
                            "missing",
                            fmt::join(known, ", "), known.front(), name));
        }
        row.push_back(given.at(name));
    }
    const auto one = standardised(torch::tensor(row, torch::kFloat64).unsqueeze(0), checkpoint.given_columns);
    return one.repeat({count, 1});
}

void check_kind_of_files(const SampleCommand& options, const Checkpoint& checkpoint) {
    const std::string ending = file_ending(options.out);
    if (!checkpoint.shape.points) {
        if (ending != ".png" && !is_special(options.out)) {
            throw Error(fmt::format("--out {}: pictures are written as .png", options.out));
        }
        if (options.style || !options.field.empty()) throw Error("--style and --field are of points, not of pictures");
        return;
    }
    for (const char* name : {"--columns", "--scale", "--trajectory"}) {
        if (options.command->count(name) > 0) throw Error(fmt::format("{} is of pictures, and these are points", name));
    }
    if (ending != ".csv") require_gnuplot();
    if (ending == ".csv" && (options.style || !options.field.empty())) {
        throw Error("--style and --field shape a picture; write one by --out FILE.png or FILE.svg");
    }
    if (options.field.empty()) return;
    const auto is_bounded = [](const Column& column) { return column.bounds.has_value(); };
    if (std::ssize(checkpoint.columns) != 2 || std::ranges::any_of(checkpoint.columns, is_bounded)) {
        throw Error("--field draws arrows in a plane without bounds; these points have others");
    }
}

namespace {

/// The score of noisy data at sigma / alpha = `ratio` and alpha = 1, in the columns' units.
torch::Tensor score_at(const Denoiser& denoiser, const Columns& columns, const torch::Tensor& at, double ratio,
                       torch::Device device) {
    std::vector<double> stds;
    for (const auto& column : columns) stds.push_back(column.std);
    const auto z = standardised(at, columns).to(torch::kFloat64).to(device);
    const auto eps = denoiser(z, level_of_ratio(ratio, /*alpha=*/1)).eps.cpu();
    return eps / -ratio / torch::tensor(stds, torch::kFloat64);
}

Figure figure_of_points(const SampleCommand& options, const torch::Tensor& z, const Condition& condition,
                        const Model& model, const Columns& columns, torch::Device device) {
    constexpr int64_t kManyPoints = 10'000;
    const std::string style = options.style.value_or(z.size(0) > kManyPoints ? "density" : "scatter");
    const auto all = names(columns);
    Figure figure{
        options.analytic.empty() ? "Samples" : "Samples of the denoiser " + options.analytic,
        point_panels(restored(z, columns), all, style == "scatter" ? PointStyle::kScatter : PointStyle::kDensity)};
    for (const double ratio : options.field) {
        const auto noise = sampling_noise(uint64_t(options.seed), 0, z.size(0), z.sizes().slice(1), step_draw(0, 0));
        const auto field = [&](const torch::Tensor& at) {
            const bool told = condition.defined();
            auto sizes = told ? condition.sizes().vec() : std::vector<int64_t>();
            if (told) sizes[0] = at.size(0);
            const auto same = told ? condition.narrow(0, 0, 1).expand(sizes).to(device) : Condition();
            return score_at(denoiser(model, same), columns, at, ratio, device);
        };
        figure.panels.push_back(
            field_panel(restored(z + ratio * noise, columns), all, field, fmt::format("score at sigma = {:g}", ratio)));
    }
    return figure;
}

}  // namespace

void write_points(const SampleCommand& options, const torch::Tensor& z, const Condition& condition, const Model& model,
                  const Columns& columns, torch::Device device) {
    if (file_ending(options.out) == ".csv")
        return write_csv(options.out, {names(columns), restored(z, columns)}, /*as_float32=*/true);
    write_figure(options.out, figure_of_points(options, z, condition, model, columns, device));
}

}  // namespace diffuse::cli
