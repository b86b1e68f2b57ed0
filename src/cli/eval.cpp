#include "cli/eval.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kMeasured = "What is measured";

/// The option of a key of `Measure::options`. Those of which there may be a row for each are called so.
std::string option_of(const std::string& key) {
    return option_name(key) + (key == "solver" || key == "spacing" ? "s" : "");
}

/// Refuses options that the measure would take no notice of.
void check_options(const CLI::App& command, const Measure& measure) {
    for (const auto& [name, other] : measures()) {
        for (const auto& key : other.options) {
            if (command.count(option_of(key)) == 0 || measure.options.contains(key)) continue;
            throw Error(fmt::format("{} belongs to --metric {}", option_of(key), name));
        }
    }
}

/// The options that take several values, a row of the table for each.
void add_lists(CLI::App& command, EvalOptions& options) {
    command.add_option("--solvers", options.solvers, "solvers, a row for each")
        ->delimiter(',')
        ->check(known_name("solver", names(solvers())))
        ->type_name("NAME")
        ->group(kHow)
        ->default_str("the checkpoint's, else " + options.sampling.solver);
    command.add_option("--steps", options.steps, "numbers of steps, a row for each, e.g. 5,10,20")
        ->delimiter(',')
        ->transform(range<int64_t>(1, 100'000))
        ->type_name("N")
        ->group(kHow);
    command
        .add_option("--nfe", options.nfe, "largest numbers of network evaluations, a row for each, whatever the solver")
        ->delimiter(',')
        ->transform(range<int64_t>(1, 1'000'000))
        ->type_name("N")
        ->group(kHow);
    command.get_option("--nfe")->excludes("--steps");
    command.add_option("--guidance", options.guidance, "guidance scales, a row for each; 1 draws of the class")
        ->delimiter(',')
        ->transform(range<double>(-100, 100))
        ->type_name("X")
        ->group(kHow)
        ->default_str("the checkpoint's, else 1");
    command
        .add_option("--guidance-interval", options.interval_ends,
                    "noise levels sigma / alpha in which guidance holds, by whole steps, elsewhere the scale is 1; a "
                    "row for each pair LO,HI,LO,HI,...")
        ->delimiter(',')
        ->transform(range<double>(0, std::numeric_limits<double>::infinity()))
        ->type_name("LO,HI")
        ->group(kHow)
        ->default_str("the checkpoint's, else all levels");
    command.add_option("--spacings", options.spacings, "spacings, a row for each")
        ->delimiter(',')
        ->check(known_name("spacing", spacing_names()))
        ->type_name("NAME")
        ->group(kHow)
        ->default_str("the checkpoint's, else " + options.sampling.spacing);
}

/// Of what draws samples, the checkpoint's own way where the command line says no other.
void take_defaults(EvalOptions& options, const CLI::App& command, const Checkpoint& checkpoint) {
    // What shapes guidance stays where one of the scales needs it; `combinations` drops it for the others.
    for (const double scale : options.guidance) {
        if (scale != 1) options.sampling.guidance = scale;
    }
    options.sampling = with_given(command, options.sampling, checkpoint.config.sample, checkpoint.name);
}

/// Refuses a tolerance that no row takes notice of.
void check_tolerance(const CLI::App& command, const std::vector<SampleOptions>& all) {
    const auto adaptive = [](const SampleOptions& one) { return one.solver_kind().adaptive(); };
    if (command.count("--tolerance") == 0 || std::ranges::any_of(all, adaptive)) return;
    throw Error("--tolerance belongs to dopri5, which is not among the solvers");
}

/// What a measure finds, which tells of each row at once.
Report measured(EvalOptions options, const CLI::App& command, const Measure& measure) {
    const auto device = options.runtime.apply();
    log::debug(fmt::format("{}: {}", options.metric, measure.about));
    MeasureOptions& asked = options.measure;
    asked.on_row = [](const auto& row) { log::info(to_text(row)); };
    if (!measure.of_model) return measure.run({.schedule = make_schedule({})}, asked);
    const Checkpoint checkpoint = load_to_run(options.checkpoint, device);
    if (measure.options.contains("guidance")) take_defaults(options, command, checkpoint);
    if (measure.options.contains("solver")) {
        asked.samplings = combinations(options, checkpoint, measure.direction);
        check_tolerance(command, asked.samplings);
    }
    asked.dataset = data_of(checkpoint, options.data);
    asked.fingerprint = checkpoint.training.fingerprint;
    asked.nll.max_ratio = options.sampling.max_ratio;
    asked.nll.tolerance = options.sampling.tolerance;
    return measure.run(make_model(checkpoint, options.sampling.weights, device), asked);
}

std::string cell_text(const nlohmann::ordered_json& value) {
    return value.is_number_float() ? fmt::format("{:.4g}", value.get<double>())
           : value.is_string()     ? value.get<std::string>()
                                   : value.dump();
}

/// The rows as columns of text, below what is said of all of them.
std::string report_text(const Report& report) {
    std::string text;
    for (const auto& [key, value] : report.head.items()) {
        text += fmt::format("{}{}: {}", text.empty() ? "" : "\n", key,
                            value.is_string() ? value.get<std::string>() : value.dump());
    }
    if (report.rows.empty()) return text;
    text += "\n";
    for (const auto& [key, value] : report.rows.front().items()) text += fmt::format("  {:>12}", key);
    for (const auto& row : report.rows) {
        text += "\n";
        for (const auto& [key, value] : row.items()) text += fmt::format("  {:>12}", cell_text(value));
    }
    return text;
}

Result run(const EvalOptions& options, const CLI::App& command) {
    const Measure& measure = look_up("metric", measures(), options.metric);
    check_options(command, measure);
    if (measure.of_model == options.checkpoint.empty()) {
        throw Error(fmt::format("--metric {} is {} a checkpoint: {} --checkpoint", options.metric,
                                measure.of_model ? "of" : "not of", measure.of_model ? "give" : "leave out"));
    }
    check_outputs({options.plot}, {checkpoint_file(options.checkpoint)});
    check_plot(options, !measure.plotted.empty());
    const Report report = measured(options, command, measure);
    if (!options.plot.empty()) {
        write_figure(options.plot, report.figure ? *report.figure : figure_of(report, options, measure.plotted));
    }
    nlohmann::ordered_json json = report.head;
    json["rows"] = report.rows;
    return result_of(options.json, json, report_text(report), {{"plot", options.plot}});
}

/// What is measured, and of what.
void add_what(CLI::App& command, EvalOptions& options) {
    add_checkpoint(command, options.checkpoint, kMeasured);
    command.get_option("--checkpoint")->required(false)->description("checkpoint file or run folder; not for features");
    command.add_option("--metric", options.metric, "measure")
        ->check(known_name("metric", names(measures())))
        ->type_name("NAME")
        ->group(kMeasured)
        ->capture_default_str();
    add_data(command, options.data, kMeasured);
    add_options(command, fields(options.measure), kMeasured);
    for (const auto* file : {"--features", "--reference"}) command.get_option(file)->type_name("FILE");
    command.add_option("--sigmas", options.measure.sigmas, "fisher: noise levels sigma / alpha, a row for each")
        ->delimiter(',')
        ->transform(range<double>(1e-4, 1e4))
        ->type_name("X,...")
        ->default_str("eight from 0.05 to 10")
        ->group(kMeasured);
}

/// How the samples are drawn, or the likelihood is computed.
void add_how(CLI::App& command, EvalOptions& options) {
    add_lists(command, options);
    Fields shared;
    for (auto& field : fields(options.sampling)) {
        const std::set<std::string> keys = {"max_ratio",        "clip_x0",   "weights", "batch",          "class",
                                            "guidance_rescale", "threshold", "guide",   "negative_class", "tolerance"};
        if (keys.contains(field.key)) shared.push_back(std::move(field));
    }
    add_options(command, shared, kHow);
    command.get_option("--batch")->group(kMachine);
    command.get_option("--guide")->type_name("RUN");
    add_options(command, fields(options.measure.nll), kHow);
}

/// What is written beside the table.
void add_written(CLI::App& command, EvalOptions& options) {
    command.add_flag("--per-class", options.measure.per_class, "fid: rows for each class too")->group(kWritten);
    command
        .add_option("--plot", options.plot,
                    "file (.svg or .png) for curves over the guidance scales, or else over the network evaluations, of "
                    "fisher over sigma, and of sbc for its histograms; drawn by gnuplot")
        ->check(ending({".svg", ".png"}))
        ->type_name("FILE")
        ->group(kWritten);
}

}  // namespace

void add_eval(CLI::App& app, Result& result) {
    auto options = std::make_shared<EvalOptions>();
    auto* command = app.add_subcommand("eval", "measure a network: quality of its samples, likelihood, round trips");
    add_what(*command, *options);
    add_how(*command, *options);
    add_written(*command, *options);
    add_json(*command, options->json);
    options->runtime.add_to(*command);
    command->footer(
        "diffuse eval --checkpoint runs/demo --solvers ddim,unipc --nfe 10,20 --num 256\n"
        "diffuse eval --checkpoint runs/demo --metric nll --num 16");
    command->callback([options, command, &result] { result = run(*options, *command); });
}

}  // namespace diffuse::cli
