#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "cli/common.hpp"
#include "diffuse/base/device.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/lab/report.hpp"

namespace diffuse::cli {
namespace {

using Json = nlohmann::ordered_json;

struct LabOptions {
    std::string name, input, out = "lab";
    std::vector<std::string> settings;
    int64_t seed = 0;
    bool markdown = false, json = false;
};

std::vector<std::string> lab_names() {
    auto known = names(experiments());
    known.emplace_back("all");
    return known;
}

Result list_experiments(bool as_json) {
    Json json = Json::array();
    std::string text;
    for (const auto& [name, experiment] : experiments()) {
        Json settings = Json::array();
        for (const auto& field : experiment.settings) {
            settings.push_back({{"key", field.key},
                                {"default", value_of(field)},
                                {"meaning", field.meaning},
                                {"expected", expected(field)}});
        }
        json.push_back({{"name", name}, {"about", experiment.about}, {"settings", settings}});
        text += fmt::format("{:<14} {}\n", name, experiment.about);
    }
    text += fmt::format("{:<14} all of them, and one page of HTML with everything\n", "all");
    return {as_json ? to_text(json) + "\n" : text};
}

Outcome run_one(const std::string& name, const LabOptions& options, nlohmann::json settings) {
    const Experiment& experiment = look_up("experiment", experiments(), name);
    if (options.name == "all") log::info(fmt::format("{}: {}", name, experiment.about));
    const auto start = std::chrono::steady_clock::now();
    Outcome outcome{name, uint64_t(options.seed)};
    outcome.findings = experiment.run(settings, outcome.seed);
    outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    create_folder(options.out);
    save_exhibits(options.out, outcome);
    return outcome;
}

std::string text_of(const std::vector<Outcome>& outcomes, const std::string& page) {
    std::string text;
    for (const auto& outcome : outcomes) {
        text += to_table(outcome);
        for (const auto& file : outcome.files) {
            if (page.empty() || file.ends_with(".csv")) text += file + "\n";
        }
        text += "\n";
    }
    return page.empty() ? text : text + page + "\n";
}

std::string printed(const LabOptions& options, const std::vector<Outcome>& outcomes, const std::string& page) {
    if (options.markdown) return to_markdown(outcomes);
    if (!options.json) return text_of(outcomes, page);
    Json json = Json::array();
    for (const auto& outcome : outcomes) json.push_back(to_json(outcome));
    return to_text(json) + "\n";
}

/// What the first figure or file that failed has to say; empty where none did.
std::string first_problem(const std::vector<Outcome>& outcomes) {
    const auto found = std::ranges::find_if(outcomes, [](const Outcome& one) { return !one.problem.empty(); });
    return found == outcomes.end() ? "" : found->problem;
}

/// Which checks failed, naming the first ones; or, where all hold, which figure.
std::string failures(const std::vector<Outcome>& outcomes) {
    std::vector<std::string> failed;
    size_t count = 0;
    for (const auto& outcome : outcomes) {
        for (const auto& check : outcome.findings.checks) {
            ++count;
            if (!check.holds()) failed.push_back(fmt::format("{}: {}", outcome.name, check.what));
        }
    }
    if (failed.empty()) return first_problem(outcomes);
    const size_t number = failed.size();
    failed.resize(std::min<size_t>(number, 3));
    return fmt::format("{} of {} checks failed: {}{}", number, count, fmt::join(failed, "; "),
                       number > 3 ? "; ..." : "");
}

nlohmann::json settings_of(const LabOptions& options) {
    if (!options.input.empty() && options.name != "fourier") {
        throw Error("--input is the image of fourier; leave it out");
    }
    if (options.name == "all") return nlohmann::json::object();
    auto said = options.settings;
    if (!options.input.empty()) said.push_back("input=" + options.input);
    const Experiment& experiment = look_up("experiment", experiments(), options.name);
    return lab_settings(experiment, said);
}

Result run_lab(const LabOptions& options, const Given& given) {
    if (options.name.empty()) {
        for (const std::string key : {"set", "input", "out", "seed", "markdown"}) {
            if (given.contains(key)) throw Error(fmt::format("--{} needs an experiment, e.g. diffuse lab heat", key));
        }
        return list_experiments(options.json);
    }
    const bool all = options.name == "all";
    if (all && !options.settings.empty()) throw Error("--set is of one experiment; name it instead of all");
    const auto settings = settings_of(options);
    const auto page_file = std::filesystem::path(options.out) / "lab.html";
    if (path_exists(options.out) && !is_folder(options.out)) {
        throw Error(fmt::format("--out {} is a file; name a folder", display_path(options.out)));
    }
    if (path_exists(options.out)) require_writable(page_file);
    set_threads(1);  // a second thread costs more than it helps with tensors of some ten thousand numbers
    if (!has_gnuplot()) log::warn(fmt::format("no figures, for want of gnuplot; {}", kInstallGnuplot));
    std::vector<Outcome> outcomes;
    for (const auto& name : all ? names(experiments()) : std::vector<std::string>{options.name}) {
        outcomes.push_back(run_one(name, options, settings));
    }
    std::string page;
    if (all) {
        write_file(page_file, to_html(outcomes, options.out));
        page = display_path(page_file);
    }
    return {printed(options, outcomes, page), failures(outcomes)};
}

std::vector<Option> options_of_lab(LabOptions& o) {
    const auto done =
        grouped("What is done",
                {{.field = {"experiment", Choice{&o.name, lab_names()}, "experiment, or all of them; none: the list"},
                  .value = "NAME",
                  .positional = true}});
    const auto how = grouped(
        kHow,
        {{.field = {"set", Words{&o.settings}, "one setting of the experiment with another value, e.g. paths=1000"},
          .value = "NAME=VALUE"},
         file_option({"input", &o.input, "PNG file of the image of fourier; else a digit is drawn"}),
         {.field = {"seed", Number<int64_t>{&o.seed, 0, INT64_MAX}, "random seed for all that is drawn"}}});
    const auto written = grouped(
        kWritten,
        {{.field = {"out", &o.out,
                    "folder for figures (SVG, PNG), their numbers (CSV) and gnuplot scripts; with all, lab.html too"},
          .value = "DIR"},
         {.field = {"markdown", &o.markdown, "print stories and checks as a page of Markdown"}},
         {.field = {"json", &o.json, "print the checks as a JSON list of experiments"}, .excludes = {"markdown"}}});
    return joined({done, how, written});
}

}  // namespace

Command lab_command() {
    return command_of({.name = "lab",
                       .about = "do an experiment with diffusion, and check it against its formulas",
                       .examples = {"diffuse lab ou --seed 1", "diffuse lab heat --set ratio=0.3"}},
                      LabOptions(), options_of_lab, run_lab);
}

}  // namespace diffuse::cli
