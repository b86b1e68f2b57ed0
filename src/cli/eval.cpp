#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <set>

#include "cli/common.hpp"
#include "cli/eval.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/measure/nll.hpp"
#include "diffuse/measure/roundtrip.hpp"
#include "diffuse/train/batch.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kMeasured = "What is measured";

Json row_of(const SampleOptions& sampling, const Samples& result, int64_t steps) {
    Json row;
    row["solver"] = sampling.solver;
    row["spacing"] = sampling.spacing;
    row["steps"] = steps;
    row["nfe"] = result.nfe;
    return row;
}

/// "0.3,3": where guidance holds; "-" where there is none.
std::string interval_words(const SampleOptions& sampling) {
    if (sampling.guidance == 1) return "-";
    if (!sampling.guidance_interval) return "all";
    return fmt::format("{:g},{:g}", sampling.guidance_interval->first, sampling.guidance_interval->second);
}

}  // namespace

void Report::add(const Json& row) {
    rows.push_back(row);
    log::info(to_text(row));
}

Result Report::result(bool as_json, const Files& files) const {
    Json all = head;
    all["rows"] = rows;
    std::string text;
    for (const auto& [key, value] : head.items()) {
        text += fmt::format("{}{}: {}", text.empty() ? "" : "\n", key,
                            value.is_string() ? value.get<std::string>() : value.dump());
    }
    for (size_t i = 0; i < rows.size(); ++i) {
        if (i == 0) {
            text += "\n";
            for (const auto& [key, value] : rows[i].items()) text += fmt::format("  {:>12}", key);
        }
        text += "\n";
        for (const auto& [key, value] : rows[i].items()) {
            text += fmt::format("  {:>12}", value.is_number_float() ? fmt::format("{:.4g}", value.get<double>())
                                            : value.is_string()     ? value.get<std::string>()
                                                                    : value.dump());
        }
    }
    return result_of(as_json, all, text, files);
}

Dataset some_training_examples(const Checkpoint& checkpoint, const Dataset& train, int64_t count) {
    const auto found = fingerprint(train, checkpoint.data.condition.classes.count > 0);
    if (const auto& known = checkpoint.training.fingerprint; found != known) {
        log::warn(fmt::format("the network was trained on other data ({}) than these ({})", known, found));
    }
    // Drawn at random: MNIST's file goes from writer to writer, and its first images are few people's.
    const int64_t some = std::min(count, train.size());
    return train.rows(DataOrder(/*seed=*/0, train.size()).indices(0, some));
}

void require_digits(const Checkpoint& checkpoint, const std::string& metric) {
    const std::string& kind = checkpoint.config.dataset.kind;
    if (kind == "mnist" || kind == "digits") return;
    throw Error(
        fmt::format("--metric {} takes the features of a classifier of MNIST, which says nothing of data of kind "
                    "{}; take features of your own, from files, by --metric features",
                    metric, kind));
}

void add_samples(Report& report, const std::vector<SampleOptions>& all, const EvalOptions& options,
                 const Checkpoint& checkpoint, torch::Device device, const MeasureSamples& measure) {
    const int64_t count = options.num.value_or(kDefaultSamples);
    const Model model = make_model(checkpoint, options.sampling.weights, device);
    const auto noise = sampling_noise(uint64_t(options.seed), 0, count, model.data.shape.sizes(), 0);
    const auto needs_one = std::ranges::find_if(all, [](const auto& one) { return one.guidance != 1; });
    const auto guide = needs_one == all.end() ? std::nullopt : load_guide(*needs_one, device);
    const bool in_intervals =
        std::ranges::any_of(all, [](const auto& one) { return one.guidance_interval.has_value(); });
    for (const auto& sampling : all) {
        Sampler sampler = make_sampler(sampling, model, guide);
        sampler.condition = model.data.condition.of_classes(sampling.classes, count);
        check_guidance(sampling, sampler.condition);
        sampler.seed = uint64_t(options.seed);
        const int64_t steps = std::ssize(sampler.grid) - 1;
        const auto drawn =
            run_with_progress(fmt::format("{}, {} steps: image steps", sampling.solver, steps), sampler, noise);
        Json head = row_of(sampling, drawn, steps);
        head["guidance"] = sampling.guidance;
        if (in_intervals) head["interval"] = interval_words(sampling);
        for (const Json& said : measure(drawn, sampler.condition)) {
            Json row = head;
            row.update(said);
            report.add(row);
        }
    }
}

/// The first test examples: --num, or `by_default` of them where there are so many.
Dataset test_examples(const EvalOptions& options, const Checkpoint& checkpoint, int64_t by_default) {
    const Dataset loaded = load_dataset(data_of(checkpoint, options.data), Split::kTest);
    const Dataset test = in_terms_of(checkpoint.data, loaded, "the data set");
    const int64_t count = options.num.value_or(std::min(by_default, test.size()));
    if (count > test.size()) {
        throw Error(fmt::format("--num {}: there are {} test {}s", count, test.size(), noun(test.spec.shape)));
    }
    return test.part(0, count);
}

namespace {

Report report_roundtrip(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device) {
    const auto all = combinations(options, checkpoint, Direction::kEncoding);
    const Dataset examples = test_examples(options, checkpoint, 64);
    const auto x = to_network(examples.examples);
    const Model model = make_model(checkpoint, options.sampling.weights, device);
    Report report;
    report.head["metric"] = fmt::format("mean squared error per {} after encoding and decoding",
                                        checkpoint.data.shape.points ? "standardised number" : "pixel in [0, 1]");
    report.head[noun(checkpoint.data.shape) + "s"] = x.size(0);
    for (const auto& sampling : all) {
        Sampler decode = make_sampler(sampling, model);
        decode.condition = examples.condition;
        const auto trip = round_trip(decode, x);
        Json row = row_of(sampling, trip.encoded, std::ssize(decode.grid) - 1);
        row["mse"] = trip.mse;
        row["latent_mean"] = trip.latent_mean;
        row["latent_std"] = trip.latent_std;
        report.add(row);
    }
    return report;
}

/// What can be measured, the options that only some metrics take, and the columns that make a plot.
struct Metric {
    Report (*report)(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device);
    std::set<std::string> options;
    std::vector<std::string> plotted = {};
    bool of_checkpoint = true;
};
const Table<Metric>& metrics() {
    static const std::set<std::string> drawing = {"--num",
                                                  "--data",
                                                  "--weights",
                                                  "--solvers",
                                                  "--spacings",
                                                  "--steps",
                                                  "--nfe",
                                                  "--max-ratio",
                                                  "--clip-x0",
                                                  "--batch",
                                                  "--seed",
                                                  "--class",
                                                  "--guidance",
                                                  "--guidance-interval",
                                                  "--guidance-rescale",
                                                  "--threshold",
                                                  "--negative-class",
                                                  "--guide",
                                                  "--tolerance",
                                                  "--plot"};
    static const std::set<std::string> of_points = [] {
        auto options = drawing;
        for (const char* name : {"--clip-x0", "--threshold", "--class", "--negative-class", "--plot"}) {
            options.erase(name);
        }
        return options;
    }();
    static const auto with = [](std::set<std::string> options, const std::string& one) {
        options.insert(one);
        return options;
    };
    static const Table<Metric> table = {
        {"fid", {report_fid, with(drawing, "--per-class"), {"fid", "as_asked"}}},
        {"features", {report_features, {"--features", "--reference"}, {}, /*of_checkpoint=*/false}},
        {"fisher", {report_fisher, {"--num", "--data", "--weights", "--seed", "--sigmas", "--plot"}}},
        {"nll",
         {report_nll,
          {"--num", "--data", "--weights", "--max-ratio", "--seed", "--probes", "--ode-steps", "--tolerance"}}},
        {"pr", {report_pr, drawing, {"precision", "recall"}}},
        {"roundtrip",
         {report_roundtrip,
          {"--num", "--data", "--weights", "--solvers", "--spacings", "--steps", "--nfe", "--max-ratio", "--batch",
           "--tolerance"}}},
        {"c2st", {report_c2st, with(of_points, "--observations")}},
        {"sbc", {report_sbc, with(of_points, "--plot")}}};
    return table;
}

/// Refuses options that the metric would take no notice of.
void check_options(const CLI::App& command, const Metric& metric) {
    for (const auto& [name, other] : metrics()) {
        for (const auto& option : other.options) {
            if (command.count(option) == 0 || metric.options.contains(option)) continue;
            throw Error(fmt::format("{} belongs to --metric {}", option, name));
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
        ->default_str("the checkpoint's, else " + options.solvers.front());
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
        ->default_str("the checkpoint's, else " + options.spacings.front());
}

/// Of what draws samples, the checkpoint's own way where the command line says no other.
void take_defaults(EvalOptions& options, const CLI::App& command, const Checkpoint& checkpoint) {
    // What shapes guidance stays where one of the scales needs it; `combinations` drops it for the others.
    for (const double scale : options.guidance) {
        if (scale != 1) options.sampling.guidance = scale;
    }
    options.sampling = with_given(command, options.sampling, checkpoint.config.sample, checkpoint.name);
    if (command.count("--solvers") == 0) options.solvers = {options.sampling.solver};
    if (command.count("--spacings") == 0) options.spacings = {options.sampling.spacing};
}

/// Refuses a tolerance that no row takes notice of.
void check_tolerance(const EvalOptions& options, const CLI::App& command) {
    if (command.count("--tolerance") == 0 || options.metric == "nll") return;
    const auto adaptive = [](const std::string& solver) { return look_up("solver", solvers(), solver).adaptive(); };
    if (std::ranges::none_of(options.solvers, adaptive)) {
        throw Error("--tolerance belongs to dopri5, which is not among the solvers");
    }
}

Result run(EvalOptions options, const CLI::App& command) {
    const Metric& metric = look_up("metric", metrics(), options.metric);
    check_options(command, metric);
    if (metric.of_checkpoint == options.checkpoint.empty()) {
        throw Error(fmt::format("--metric {} is {} a checkpoint: {} --checkpoint", options.metric,
                                metric.of_checkpoint ? "of" : "not of", metric.of_checkpoint ? "give" : "leave out"));
    }
    check_outputs({options.plot}, {checkpoint_file(options.checkpoint)});
    check_plot(options, !metric.plotted.empty());
    const auto device = options.runtime.apply();
    const Checkpoint checkpoint = metric.of_checkpoint ? load_to_run(options.checkpoint, device) : Checkpoint{};
    if (metric.options.contains("--guidance")) take_defaults(options, command, checkpoint);
    check_tolerance(options, command);
    if (options.guidance.empty()) options.guidance = {options.sampling.guidance};
    const Report report = metric.report(options, checkpoint, device);
    if (!options.plot.empty()) {
        write_figure(options.plot, report.figure ? *report.figure : figure_of(report, options, metric.plotted));
    }
    return report.result(options.json, {{"plot", options.plot}});
}

/// What is measured, and of what.
void add_what(CLI::App& command, EvalOptions& options) {
    command.add_option("--metric", options.metric, "measure")
        ->check(known_name("metric", names(metrics())))
        ->type_name("NAME")
        ->group(kMeasured)
        ->capture_default_str();
    add_data(command, options.data, kMeasured);
    for (auto* file : {&options.features, &options.reference}) {
        const bool is_reference = file == &options.reference;
        command
            .add_option(is_reference ? "--reference" : "--features", *file,
                        is_reference ? "features: safetensors file to compare with"
                                     : "features: safetensors file of features, [N, F], or of pictures, [N, C, H, W]")
            ->type_name("FILE")
            ->group(kMeasured);
    }
    command.add_option("--num", options.num, "number of images or points")
        ->transform(range<int64_t>(2, 1'000'000))
        ->type_name("N")
        ->default_str(
            "1000 for fid and pr, at most 128 for nll, 64 for roundtrip, 10000 points for c2st and fisher, "
            "500 trials for sbc")
        ->group(kMeasured);
    command.add_option("--seed", options.seed, "random seed for all noise")
        ->transform(range<int64_t>(0, INT64_MAX))
        ->type_name("N")
        ->group(kMeasured)
        ->capture_default_str();
    command.add_option("--sigmas", options.sigmas, "fisher: noise levels sigma / alpha, a row for each")
        ->delimiter(',')
        ->transform(range<double>(1e-4, 1e4))
        ->type_name("X,...")
        ->default_str("eight from 0.05 to 10")
        ->group(kMeasured);
    command
        .add_option("--observations", options.observations,
                    "c2st: observations of a simulator's test split, a row for each")
        ->transform(range<int64_t>(1, 1000))
        ->type_name("N")
        ->default_str("5")
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
    add_options(command, fields(options.nll), kHow);
}

/// What is written beside the table.
void add_written(CLI::App& command, EvalOptions& options) {
    command.add_flag("--per-class", options.per_class, "fid: rows for each class too")->group(kWritten);
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
    add_checkpoint(*command, options->checkpoint, kMeasured);
    command->get_option("--checkpoint")
        ->required(false)
        ->description("checkpoint file or run folder; not for features");
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
