#include "cli/sample.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kDrawn = "What is drawn";
constexpr int64_t kDefaultNum = 64, kDefaultPoints = 2000, kMaxCycle = 16;

/// The levels of a grid, as a table.
Result show_grid(const Grid& grid, bool as_json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    std::string text = "        t        alpha        sigma  sigma / alpha    log-SNR";
    for (const auto& level : grid) {
        json.push_back({{"t", level.t}, {"alpha", level.alpha}, {"sigma", level.sigma}});
        json.back()["ratio"] = number_json(level.ratio());
        if (level.sigma > 0) json.back()["log_snr"] = number_json(level.log_snr());
        text += fmt::format("\n{:9.3f}  {:11.8f}  {:11.8f}  {:13.6f}  {:9.4f}", level.t, level.alpha, level.sigma,
                            level.ratio(), level.log_snr());
    }
    return result_of(as_json, json, text);
}

/// Of how many classes a column each is shown, where they are few and come one after the other; else none.
int64_t columns_of_classes(const SampleCommand& options, const DataSpec& data) {
    const int64_t count = std::ssize(data.condition.cycle(options.sampling.classes));
    return !data.shape.points && count > 1 && count <= kMaxCycle ? count : 0;
}

/// How the image of so many images looks. Throws Error where it would be too large.
Layout layout(const SampleCommand& options, int64_t count, int64_t by_default, const ExampleShape& shape) {
    if (shape.points) return {};
    const int64_t columns = options.columns > 0 ? options.columns
                            : by_default > 0    ? by_default
                                                : int64_t(std::ceil(std::sqrt(double(count))));
    const int64_t scale = sheet_scale(options.scale, shape.height, shape.width);
    require_sheet(count, columns, shape.height, shape.width, scale);
    return {columns, scale};
}

/// What sampling starts from, of which condition it draws, and how that is shown.
struct Drawing {
    torch::Tensor x, second_states;  ///< the latter of a reversible solver, where they are known
    Condition condition;
    Layout shown;
};

Drawing drawing_of_latents(const SampleCommand& options, const Latents& latents, const DataSpec& data) {
    Drawing drawing{.x = latents.examples("latents", data.shape)};
    const int64_t count = drawing.x.size(0);
    if (options.sampling.solver_kind().pairs) {
        drawing.second_states = latents.examples("second_states", data.shape);
        const int64_t others = drawing.second_states.size(0);
        if (others != count) {
            throw Error(fmt::format("{}: {} latents but {} second states", latents.path, count, others));
        }
    }
    if (options.num.value_or(count) != count) {
        throw Error(fmt::format("--num {} contradicts --latents: {} holds {}; leave --num out", *options.num,
                                latents.path, count));
    }
    drawing.condition = latents.condition(options, data.condition, count);
    drawing.shown = layout(options, count, 0, data.shape);
    return drawing;
}

Drawing drawing_of_noise(const SampleCommand& options, const DataSpec& data) {
    const ConditionSpec& known = data.condition;
    const int64_t columns = columns_of_classes(options, data);
    const int64_t rows = columns > 0 ? (kDefaultNum + columns - 1) / columns : 0;  // as many as fill them
    const int64_t by_default = data.shape.points ? kDefaultPoints : columns > 0 ? rows * columns : kDefaultNum;
    const int64_t count = options.num.value_or(by_default);
    const Layout shown = layout(options, count, columns, data.shape);  // before the memory is taken
    const bool by_numbers = !known.numbers.empty() || !options.condition.empty();
    return {.x = sampling_noise(uint64_t(options.seed), 0, count, data.shape.sizes(), 0),
            .condition = by_numbers ? known.of_numbers(options.condition, count)
                                    : known.of_classes(options.sampling.classes, count),
            .shown = shown};
}

/// ", guided by scale 4 (w = 3) where sigma / alpha is in (1, 10]": both ways in which papers count, and what else
/// holds by the command line or the config.
std::string guidance_words(const SampleOptions& options) {
    if (options.guidance == 1) return "";
    std::string text = fmt::format(", guided by scale {:g} (w = {:g})", options.guidance, options.guidance - 1);
    if (const auto& interval = options.guidance_interval) {
        text += fmt::format(" where sigma / alpha is in ({:g}, {:g}]", interval->first, interval->second);
    }
    if (!options.guide.empty()) text += " away from " + display_path(options.guide);
    if (options.negative_class) text += fmt::format(" away from class {}", *options.negative_class);
    if (options.guidance_rescale > 0) text += fmt::format(", rescaled by {:g}", options.guidance_rescale);
    return text;
}

Result summary(const SampleCommand& options, const TimedSamples& made, int64_t steps) {
    const double scale = options.sampling.guidance, per_second = double(made.x.size(0)) / made.seconds;
    const std::string nouns = made.x.dim() == 2 ? "points" : "images";
    nlohmann::ordered_json json = options.json_of(made, steps);
    json["seed"] = options.seed;
    json["guidance"] = scale;
    if (const auto& interval = options.sampling.guidance_interval) {
        json["guidance_interval"] = {number_json(interval->first), number_json(interval->second)};
    }
    json["seconds"] = made.seconds;
    json[nouns + "_per_second"] = per_second;
    std::string text = options.text_of(made, steps, options.analytic.empty() ? "network evaluation" : "evaluation");
    text += guidance_words(options.sampling);
    text += fmt::format(": {:.1f} s, {:.1f} {}/s", made.seconds, per_second, nouns);
    return result_of(options.json, json, text, options.files());
}

/// Whether examples of a class are drawn, and where latents have classes of their own.
struct Drawn {
    bool classes = false, own = false;
};
Drawn what_is_known(const SampleCommand& options, const std::optional<Latents>& latents, const ConditionSpec& known) {
    if (!latents || options.given.contains("class")) return {.classes = !known.cycle(options.sampling.classes).empty()};
    const bool own = latents->has_classes(known);
    return {own, own};
}

/// A warning where latents are decoded otherwise than they were made; else nothing.
std::string otherwise(SampleOptions made_by, const SampleCommand& now, const Latents& latents) {
    made_by.batch = now.sampling.batch;  // the machine's affair
    if (!now.given.contains("class")) made_by.classes = now.sampling.classes;
    if (made_by == now.sampling) return "";
    return fmt::format("{}: made by {}; decoded otherwise", latents.path, latents.file.metadata.at(kSamplingKey));
}

/// Settles the options that the command line leaves open: with latents as they were made (the program's defaults where
/// their file does not tell), else as the checkpoint's config says. Returns a warning where latents are decoded
/// otherwise than they were made.
std::string settle(SampleCommand& options, const std::optional<Latents>& latents, const Source& source,
                   LeftOut& left_out) {
    const auto made_by = latents ? latents->made_by() : std::nullopt;
    const SampleOptions base = made_by.value_or(latents ? SampleOptions() : source.sample);
    const nlohmann::json said = said_of(options.given, options.sampling);
    options.sampling = with_said(said, base, left_out);
    const Drawn drawn = what_is_known(options, latents, source.data.condition);
    options.sampling = guided_if_possible(options.sampling, said, drawn.classes, left_out);
    if (latents && !options.given.contains("class")) options.sampling.classes = drawn.own ? "own" : "none";
    check(options.sampling);
    const std::string warning = made_by ? otherwise(*made_by, options, *latents) : "";
    if (latents && options.given.contains("seed") && !options.sampling.stochastic()) {
        throw Error(
            fmt::format("--seed changes nothing: --latents is where {} starts, and it draws no noise; leave it out",
                        options.sampling.solver));
    }
    return warning;
}

Result draw(const SampleCommand& options, const Drawing& drawing, const Source& source, torch::Device device) {
    check_guidance(options.sampling, drawing.condition);
    if (const auto classes = source.data.condition.never_trained(drawing.condition); !classes.empty()) {
        log::warn(fmt::format("the network was trained on no example of these classes, and draws anything: {}",
                              fmt::join(classes, ", ")));
    }
    const Model model = source.model(options.sampling.weights);
    Sampler sampler = make_sampler(options.sampling, model, load_guide(options.sampling, device));
    if (options.latents.empty()) warn_where_uncovered(source.data, sampler.grid.front().ratio());
    sampler.second_states = drawing.second_states;
    sampler.seed = uint64_t(options.seed);
    sampler.condition = drawing.condition;
    const int64_t steps = std::ssize(sampler.grid) - 1;
    PngTexts origin =
        options.origin(source.made_from, steps, source.data.shape, source.identity(options.sampling.weights));
    origin.emplace_back("seed", std::to_string(options.seed));
    const auto made = run_with_progress("sampling: step", sampler, drawing.x,
                                        {options.trajectory, options.scale, options.with_command(origin)});
    write_tensors(options, made.x, drawing.condition, origin, model.data);
    SampleCommand written = options;
    std::string failure;
    try {
        write_shown(options, made.x, drawing.condition, drawing.shown, origin, model);
    } catch (const Error& error) {
        if (error.exit_code != kRunFailed) throw;
        written.out.clear();
        failure = error.what();
    }
    Result result = summary(written, made, steps);
    result.failure = failure;
    return result;
}

Result run_sample(const SampleCommand& said, const Given& given) {
    SampleCommand options = said;
    options.given = given;
    const auto device = options.runtime.apply();
    const Source source = load_source(options, device);
    std::optional<Latents> latents;
    if (!options.latents.empty()) latents = Latents{options.latents, read_tensor_file(options.latents)};
    LeftOut left_out;
    const std::string warning = settle(options, latents, source, left_out);
    if (options.show_grid) {
        const Grid grid = make_grid(options.sampling, source.schedule, source.data.shape.numel());
        left_out.tell();
        return show_grid(grid, options.json);
    }
    check_outputs(options.files(), {options.checkpoint.empty() ? "" : checkpoint_file(options.checkpoint).string(),
                                    options.latents, options.config, options.sampling.guide});
    check_files(options, source.data);
    const Drawing drawing =
        latents ? drawing_of_latents(options, *latents, source.data) : drawing_of_noise(options, source.data);
    left_out.tell();
    if (!warning.empty()) log::warn(warning);
    if (latents && options.analytic.empty()) latents->warn_of_other_network(source.identity(options.sampling.weights));
    return draw(options, drawing, source, device);
}

/// Where the samples come from and how many they are.
std::vector<Option> what_is_drawn(SampleCommand& o) {
    return grouped(
        kDrawn,
        {checkpoint_option(o.checkpoint),
         {.field = {"analytic", Choice{&o.analytic, analytic_names()},
                    "denoiser in closed form instead of a network; gaussian: of the data's mean and covariance; "
                    "mixture: the distribution that points are drawn from; empirical: the data set itself; local: "
                    "patches of it"}},
         file_option({"config", &o.config, "JSON file whose data set and schedule --analytic takes"}),
         {.field = {"set", Words{&o.settings}, "config value for --config, key.path=value, e.g. dataset.limit=1000"},
          .value = "KEY=VALUE"},
         {.field = {"condition", &o.condition,
                    "numbers that are the condition, of a network trained with dataset.condition or a simulator: "
                    "y1=0.3,y2=-1"},
          .value = "NAME=X,..."},
         {.field = {.key = "num",
                    .value = Number<std::optional<int64_t>>{&o.num, 1, 1'000'000},
                    .meaning = "number of images or points",
                    .by_default = fmt::format("{}, or a little more to fill the rows of classes; {} points",
                                              kDefaultNum, kDefaultPoints)}},
         {.field = {"seed", Number<int64_t>{&o.seed, 0, INT64_MAX}, "random seed for the noise"}},
         file_option({"latents", &o.latents,
                      "safetensors file whose 'latents' (what encode writes) are decoded instead of noise"})});
}

/// What is written of them.
std::vector<Option> what_is_written_of_samples(SampleCommand& o) {
    return grouped(
        kWritten,
        {file_option({"out", &o.out,
                      "file to write: a PNG grid; of points a figure (.png or .svg, drawn by gnuplot) or a table "
                      "(.csv)"},
                     {".png", ".svg", ".csv"}),
         {.field = {"columns", Number<int64_t>{&o.columns, 0, 10'000},
                    "columns of the grid; 0: one for each of a few classes, else as many as rows"}},
         file_option({"save_tensors", &o.tensors,
                      "safetensors file to write too: 'images', float32 [N, C, H, W] in [-1, 1], or 'points', [N, D], "
                      "float64 where float32 cannot hold them"},
                     {".safetensors"}),
         {.field = {"style", Choice{&o.style, {"auto", "scatter", "density"}},
                    "how points are drawn: each as a dot, or how many lie where; auto: scatter up to 10,000"}},
         {.field = {"field", Reals{&o.field, 1e-4, 1e4},
                    "noise levels sigma / alpha, e.g. 0.2,1: a panel for each with the score as arrows, and noisy "
                    "samples"}},
         {.field = {"show_grid", &o.show_grid,
                    "print t, alpha, sigma, their ratio and log-SNR of the noise levels instead, and draw nothing"}}});
}

std::vector<Option> options_of_sample(SampleCommand& o) {
    return joined({what_is_drawn(o), sampling_options(o.sampling, kDrawn), what_is_written_of_samples(o), o.rest()});
}

}  // namespace

Command sample_command(const std::string& line) {
    SampleCommand start;
    start.command_line = line;
    return command_of(
        {.name = "sample",
         .about = "draw images or points from noise, as the checkpoint's config says (sample.*) where no option does",
         .examples = {"diffuse sample --checkpoint runs/demo --num 16 --out digits.png",
                      "diffuse sample --checkpoint runs/demo --solver ddim --eta 1 --steps 50"}},
        start, options_of_sample, run_sample);
}

}  // namespace diffuse::cli
