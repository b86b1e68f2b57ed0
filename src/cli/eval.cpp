#include "cli/eval.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "diffuse/base/log.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kMeasured = "What is measured";

/// Refuses options that the measure would take no notice of.
void check_options(EvalOptions options) {
    const Fields metric = {{"--metric", Choice{&options.metric, {}}}};
    const auto require_taken = [&](const std::string& key, const std::string& name) {
        Belongs belongs{.choice = "--metric"};
        for (const auto& [other, measure] : measures()) {
            if (measure.options.contains(key)) belongs.names.push_back(other);
        }
        if (belongs.names.empty()) return;  // of eval itself
        require_home(metric, {.key = name, .value = &options.metric, .belongs = belongs});
    };
    for (const auto& key : options.given) require_taken(key, option_name(key));
    for (const auto& sweep : options.sweeps) require_taken(sweep.key, "--vary " + sweep.key);
}

/// What a measure finds, which tells of each row at once.
Report measured(EvalOptions options, const Measure& measure, RowTeller& teller) {
    const auto device = options.runtime.apply();
    log::debug(fmt::format("{}: {}", options.metric, measure.about));
    MeasureOptions& asked = options.measure;
    asked.on_row = [&](const auto& row) { teller.tell(row); };
    if (!measure.of_model) return measure.run({.schedule = make_schedule({})}, asked);
    const Checkpoint checkpoint = load_to_run(options.checkpoint, device);
    std::string weights = options.sampling.weights;
    if (measure.options.contains("solver")) {
        asked.samplings = combinations(options, checkpoint, measure.direction);
        weights = asked.samplings.front().weights;  // which no row varies
    }
    asked.dataset = data_of(checkpoint, options.data);
    asked.fingerprint = checkpoint.training.fingerprint;
    asked.label_dropout = checkpoint.config.train.label_dropout;
    asked.nll.max_ratio = options.sampling.max_ratio;
    asked.nll.tolerance = options.sampling.solver_options.tolerance;
    return measure.run(make_model(checkpoint, weights, device), asked);
}

/// Draws the plot that was asked for. Returns why there is none, so that what was measured is said all the same.
std::string plot(const Report& report, const EvalOptions& options, const Measure& measure) {
    if (options.plot.empty()) return "";
    try {
        write_figure(options.plot, report.figure ? *report.figure : figure_of(report, options, measure.plotted));
        return "";
    } catch (const Error& error) {
        return error.what();
    }
}

Result run_eval(const EvalOptions& said, const Given& given) {
    EvalOptions options = said;
    options.given = given;
    const Measure& measure = look_up("metric", measures(), options.metric);
    for (const auto& text : options.vary) options.sweeps.push_back(parse_sweep(text));
    check_options(options);
    if (measure.of_model == options.checkpoint.empty()) {
        throw Error(fmt::format("--metric {} is {} a checkpoint: {} --checkpoint", options.metric,
                                measure.of_model ? "of" : "not of", measure.of_model ? "give" : "leave out"));
    }
    check_outputs({{"plot", options.plot}}, {checkpoint_file(options.checkpoint)});
    check_plot(options, !measure.plotted.empty());
    RowTeller teller(options.runtime.quiet, options.json);
    const Report report = measured(options, measure, teller);
    const std::string failure = plot(report, options, measure);
    nlohmann::ordered_json json = report.head;
    json["rows"] = report.rows;
    Result result = result_of(options.json, json, report_text(report, !teller.told_table()),
                              {{"plot", failure.empty() ? options.plot : ""}});
    result.failure = failure;
    return result;
}

/// What is measured, and of what.
std::vector<Option> what_is_measured(EvalOptions& o) {
    Option checkpoint = checkpoint_option(o.checkpoint);
    checkpoint.field.meaning += "; not for features";
    auto numbers = options_of(fields(o.measure), kMeasured);
    for (auto& option : numbers) {
        if (std::holds_alternative<std::string*>(option.field.value)) option = file_option(option.field);
    }
    const Option metric = {.field = {"metric", Choice{&o.metric, names(measures())}, "measure"}};
    const Option sigmas = {.field = {.key = "sigmas",
                                     .value = Reals{&o.measure.sigmas, 1e-4, 1e4},
                                     .meaning = "fisher: noise levels sigma / alpha, a row for each",
                                     .by_default = "eight from 0.05 to 10"}};
    return grouped(kMeasured, joined({{checkpoint, metric, data_option(o.data)}, numbers, {sigmas}}));
}

/// How the samples are drawn, or the likelihood is computed.
std::vector<Option> how_it_is_measured(EvalOptions& o) {
    const Option vary = {
        .field = {"vary", Words{&o.vary},
                  "one key of sampling (sample.*) with several values, a row for each: steps=5,10 or solver=ddim,heun"},
        .group = kHow,
        .value = "KEY=VALUE,..."};
    auto sampling = sampling_options(o.sampling);
    for (auto& option : sampling) {
        const bool is_text = std::holds_alternative<std::string*>(option.field.value);  // --class 0,1 is one
        option.varies = can_vary(option.field.key) && !is_text;
        if (option.field.key == "class") option.field.meaning += "; or data: those of the test images in their shares";
    }
    return joined({{vary}, sampling, options_of(fields(o.measure.nll), kHow)});
}

std::vector<Option> options_of_eval(EvalOptions& o) {
    const auto written = grouped(
        kWritten,
        {{.field = {"per_class", &o.measure.per_class, "fid: rows for each class too"}},
         file_option({"plot", &o.plot,
                      "file (.svg or .png) for curves over the guidance scales, or else over the network evaluations, "
                      "of fisher over sigma, and of sbc for its histograms; drawn by gnuplot"},
                     {".svg", ".png"}),
         json_option(o.json)});
    return joined({what_is_measured(o), how_it_is_measured(o), written, o.runtime.options()});
}

}  // namespace

Command eval_command() {
    return command_of({.name = "eval",
                       .about = "measure a network: quality of its samples, likelihood, round trips",
                       .examples = {"diffuse eval --checkpoint runs/demo --vary solver=ddim,unipc --num 256",
                                    "diffuse eval --checkpoint runs/demo --metric nll --num 16"}},
                      EvalOptions(), options_of_eval, run_eval);
}

}  // namespace diffuse::cli
