#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "cli/sample.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kDrawn = "What is drawn";
constexpr int64_t kDefaultNum = 64, kDefaultPoints = 2000, kMaxCycle = 16;

void check_before_work(const SampleCommand& options) {
    check_outputs({options.out, options.tensors, options.trajectory},
                  {options.checkpoint.empty() ? "" : checkpoint_file(options.checkpoint).string(), options.latents,
                   options.config});
    if (options.analytic.empty()) {
        if (options.checkpoint.empty()) throw Error("--checkpoint is required, or --analytic with --config");
        if (!options.config.empty()) throw Error("--config belongs to --analytic; a checkpoint has its own");
    } else if (options.checkpoint.empty() == options.config.empty()) {
        throw Error("--analytic takes its data and schedule from --config or from --checkpoint; give one of them");
    }
    if (!options.settings.empty() && options.config.empty()) throw Error("--set belongs to --config");
}

/// The options that made the file's latents where the command line gives none. Returns a warning where it gives others.
std::string take_from_file(SampleCommand& options, const TensorFile& file) {
    const auto stored = file.metadata.find(kSamplingKey);
    if (stored == file.metadata.end()) return "";
    const std::string what = fmt::format("{}: its '{}'", options.latents, kSamplingKey);
    SampleOptions made_by;
    read(fields(made_by), parse_json(stored->second, what), what);
    const bool otherwise = options.take_defaults(options.given, made_by);
    return otherwise ? fmt::format("{}: made by {}; decoded otherwise", options.latents, stored->second) : "";
}

/// A warning where the file's latents were made with another network than they are to be decoded with.
void warn_of_other_weights(const SampleCommand& options, const TensorFile& file, const Source& source) {
    const auto stored = file.metadata.find(kWeightsKey);
    if (!options.analytic.empty()) return;
    const std::string own = source.identity(options.sampling.weights);
    if (stored == file.metadata.end() || stored->second == own) return;
    log::warn(fmt::format("{}: made with another network ({}), decoded with {}", options.latents, stored->second, own));
}

/// What sampling starts from: the latents of a file, or noise; and the second states of a reversible solver, if any.
struct Start {
    torch::Tensor x, second_states;
};

Start start_from(const SampleCommand& options, const TensorFile& file, const ExampleShape& shape) {
    auto latents = file.at("latents", options.latents);
    if (latents.is_floating_point() && latents.scalar_type() != torch::kFloat32) {
        log::info(fmt::format("{}: its latents are {}, taken as float32", options.latents,
                              c10::toString(latents.scalar_type())));
        latents = latents.to(torch::kFloat32);
    }
    require_shape(latents, shape, options.latents);
    if (!latents.isfinite().all().item<bool>()) {
        throw Error(fmt::format("{}: its latents are not all finite; encode the images again", options.latents));
    }
    const bool reversible = options.sampling.solver_kind().pairs;
    const auto second_states = reversible ? file.at("second_states", options.latents) : torch::Tensor();
    if (reversible) require_shape(second_states, shape, options.latents);
    if (reversible && second_states.size(0) != latents.size(0)) {
        throw Error(fmt::format("{}: {} latents but {} second states", options.latents, latents.size(0),
                                second_states.size(0)));
    }
    if (options.num && *options.num != latents.size(0)) {
        throw Error(fmt::format("--num {} contradicts --latents: {} holds {}; leave --num out", *options.num,
                                options.latents, latents.size(0)));
    }
    return {latents, second_states};
}

/// The levels of a grid, as a table.
Result show_grid(const Grid& grid, bool as_json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    std::string text = "        t        alpha        sigma  sigma / alpha    log-SNR";
    for (const auto& level : grid) {
        json.push_back({{"t", level.t}, {"alpha", level.alpha}, {"sigma", level.sigma}, {"ratio", level.ratio()}});
        if (level.sigma > 0) json.back()["log_snr"] = level.log_snr();
        text += fmt::format("\n{:9.3f}  {:11.8f}  {:11.8f}  {:13.6f}  {:9.4f}", level.t, level.alpha, level.sigma,
                            level.ratio(), level.log_snr());
    }
    return result_of(as_json, json, text);
}

/// Columns and scale of the image of so many images. `cycle`: of how many classes, one after the other; a column
/// shows one class where they are few. Throws Error where it would be too large.
struct Layout {
    int64_t columns, scale;
};
Layout layout(const SampleCommand& options, int64_t count, int64_t cycle, const ExampleShape& shape) {
    if (shape.points) return {1, 1};
    const int64_t square = int64_t(std::ceil(std::sqrt(double(count))));
    const int64_t by_default = cycle > 1 && cycle <= kMaxCycle ? cycle : square;
    const int64_t columns = options.columns > 0 ? options.columns : by_default;
    const int64_t scale = sheet_scale(options.scale, shape.height, shape.width);
    require_sheet(count, columns, shape.height, shape.width, scale);
    return {columns, scale};
}

/// How many are drawn where nobody says: of a few classes as many as fill their rows.
int64_t default_num(int64_t cycle, const ExampleShape& shape) {
    if (shape.points) return kDefaultPoints;
    return cycle > 1 && cycle <= kMaxCycle ? (kDefaultNum + cycle - 1) / cycle * cycle : kDefaultNum;
}

/// A tensor of what is known of each of the latents of a file. Throws Error where it is not of this shape and type.
torch::Tensor condition_in(const TensorFile& file, const SampleCommand& options, const char* name,
                           const std::vector<int64_t>& shape, torch::ScalarType type) {
    const auto& found = file.at(name, options.latents);
    if (found.scalar_type() == type && found.sizes() == shape) return found;
    throw Error(fmt::format("{}: its '{}' are not {} [{}]; say them on the command line", options.latents, name,
                            c10::toString(type), fmt::join(shape, ", ")));
}

/// As the command line says, else as the file of latents does, else nothing.
Condition condition_of_file(const SampleCommand& options, const TensorFile& file, const ConditionSpec& known,
                            int64_t count) {
    if (!known.numbers.empty()) {
        if (!options.condition.empty()) return known.of_numbers(options.condition, count);
        return {.numbers = condition_in(file, options, "given", {count, std::ssize(known.numbers)}, torch::kFloat32)};
    }
    if (options.given.contains("class")) return known.of_classes(options.sampling.classes, count);
    if (!file.tensors.contains("classes") || known.classes.count == 0) return {};
    const auto classes = condition_in(file, options, "classes", {count}, torch::kInt64);
    const bool in_range = classes.ge(0).all().item<bool>() && classes.le(known.classes.count).all().item<bool>();
    if (in_range) return {.classes = classes};
    throw Error(fmt::format("{}: its 'classes' are not from 0 to {}; say them by --class", options.latents,
                            known.classes.count));
}

void write_tensors(const SampleCommand& options, const torch::Tensor& samples, const char* name,
                   const Condition& condition, const PngTexts& origin) {
    if (options.tensors.empty()) return;
    TensorFile file{{{name, samples}}, {origin.begin(), origin.end()}};
    add_condition(file, condition);
    write_tensor_file(options.tensors, file);
}

void write_files(const SampleCommand& options, const torch::Tensor& x, const Condition& condition, const Layout& shown,
                 const PngTexts& origin, const Model& model) {
    if (model.data.shape.points) {
        write_points(options, x, condition, model);
        const auto points = model.data.codec.decode(x).to(torch::kFloat32);
        return write_tensors(options, points, "points", condition, origin);
    }
    const auto images = x.clamp(-1, 1);  // without --clip-x0 a pixel may end a little outside
    write_png(options.out, sheet(to_bytes(images), shown.columns, shown.scale), options.with_command(origin));
    write_tensors(options, images, "images", condition, origin);
}

/// ", guided by scale 2 (w = 1)": both ways in which papers count.
std::string guidance_words(const SampleOptions& options) {
    if (options.guidance == 1) return "";
    return fmt::format(", guided by scale {:g} (w = {:g})", options.guidance, options.guidance - 1);
}

Result summary(const SampleCommand& options, const TimedSamples& result, int64_t steps) {
    const int64_t count = result.x.size(0);
    const double per_second = double(count) / result.seconds;
    nlohmann::ordered_json json;
    json["num"] = count;
    json["solver"] = options.sampling.solver;
    json["steps"] = steps;
    json["nfe"] = result.nfe;
    json["seed"] = options.seed;
    json["guidance"] = options.sampling.guidance;
    json["seconds"] = result.seconds;
    const bool is_points = result.x.dim() == 2;
    const std::string what = is_points ? "point" : "image";
    json[what + "s_per_second"] = per_second;
    return result_of(options.json, json,
                     fmt::format("{} by {} in {} ({} each){}: {:.1f} s, {:.1f} {}s/s", plural(count, what),
                                 options.sampling.solver, plural(steps, "step"),
                                 plural(result.nfe, options.analytic.empty() ? "network evaluation" : "evaluation"),
                                 guidance_words(options.sampling), result.seconds, per_second, what),
                     {{file_ending(options.out) == ".csv" ? "csv" : "png", options.out},
                      {"tensors", options.tensors},
                      {"trajectory", options.trajectory}});
}

/// Settles the options that the command line leaves open: with a file of latents as they were made (the program's
/// defaults where it does not tell), else as the checkpoint's config says. Returns a warning where a file is decoded
/// otherwise than it was made.
std::string settle(SampleCommand& options, const std::optional<TensorFile>& file, const Source& source) {
    const std::string warning = file ? take_from_file(options, *file) : "";
    if (!file) options.take_defaults(options.given, source.sample);
    check(options.sampling);
    if (file && options.given.contains("seed") && !options.sampling.stochastic()) {
        throw Error(
            fmt::format("--seed changes nothing: --latents is where {} starts, and it draws no noise; leave it out",
                        options.sampling.solver));
    }
    return warning;
}

/// How the samples came about. Nothing of the command line, so that equal samples are equal files.
PngTexts origin_of_samples(const SampleCommand& options, const Source& source, int64_t steps) {
    PngTexts origin = {{"Software", "diffuse " DIFFUSE_VERSION}, source.made_from};
    const std::string network = source.identity(options.sampling.weights);
    for (auto& text : origin_of(options.sampling, steps, source.data.shape, network)) origin.push_back(std::move(text));
    origin.emplace_back("seed", std::to_string(options.seed));
    return origin;
}

/// What is to be drawn: from where, of which condition, and how it is shown.
struct Drawing {
    Start start;
    Condition condition;
    Layout shown;
};

Drawing drawing_of_file(const SampleCommand& options, const TensorFile& file, const DataSpec& data) {
    const Start start = start_from(options, file, data.shape);
    const int64_t count = start.x.size(0);
    return {start, condition_of_file(options, file, data.condition, count), layout(options, count, 1, data.shape)};
}

Drawing drawing_of_noise(const SampleCommand& options, const DataSpec& data) {
    const ConditionSpec& known = data.condition;
    const int64_t cycle = std::max<int64_t>(1, std::ssize(known.cycle(options.sampling.classes)));
    const int64_t count = options.num.value_or(default_num(cycle, data.shape));
    const Layout shown = layout(options, count, cycle, data.shape);  // before the memory is taken
    const bool by_numbers = !known.numbers.empty() || !options.condition.empty();
    return {{sampling_noise(uint64_t(options.seed), 0, count, data.shape.sizes(), 0), {}},
            by_numbers ? known.of_numbers(options.condition, count) : known.of_classes(options.sampling.classes, count),
            shown};
}

Result draw(const SampleCommand& options, const Drawing& drawing, const Source& source, torch::Device device) {
    check_guidance(options.sampling, drawing.condition);
    const Model model = source.model(options.sampling.weights);
    Sampler sampler = make_sampler(options.sampling, model, load_guide(options.sampling, device));
    sampler.second_states = drawing.start.second_states;
    sampler.seed = uint64_t(options.seed);
    sampler.condition = drawing.condition;
    const int64_t steps = std::ssize(sampler.grid) - 1;
    PngTexts origin = origin_of_samples(options, source, steps);
    const auto result = run_with_progress("sampling: step", sampler, drawing.start.x,
                                          {options.trajectory, options.scale, options.with_command(origin)});
    write_files(options, result.x, drawing.condition, drawing.shown, origin, model);
    return summary(options, result, steps);
}

Result run(SampleCommand options) {
    check_before_work(options);
    const auto device = options.runtime.apply();
    const Source source = load_source(options, device);
    const DataSpec& data = source.data;
    std::optional<TensorFile> file;
    if (!options.latents.empty()) file = read_tensor_file(options.latents);
    const std::string warning = settle(options, file, source);
    check_outputs({options.out, options.tensors, options.trajectory}, {options.sampling.guide});
    if (options.show_grid) {
        return show_grid(make_grid(options.sampling, source.schedule, data.shape.numel()), options.json);
    }
    check_kind_of_files(options, data);
    const Drawing drawing = file ? drawing_of_file(options, *file, data) : drawing_of_noise(options, data);
    if (!warning.empty()) log::warn(warning);
    if (file) warn_of_other_weights(options, *file, source);
    return draw(options, drawing, source, device);
}

/// Where the samples come from and how many they are.
std::vector<Option> what_is_drawn(SampleCommand& o) {
    const auto option = [](Field field, const std::string& value = "") {
        return Option{.field = std::move(field), .group = kDrawn, .value = value};
    };
    return {checkpoint_option(o.checkpoint, kDrawn),
            option({"analytic", Choice{&o.analytic, analytic_names()},
                    "denoiser in closed form instead of a network; gaussian: of the data's mean and covariance; "
                    "mixture: the distribution that points are drawn from; empirical: the data set itself; local: "
                    "patches of it"}),
            option({"config", &o.config, "JSON file whose data set and schedule --analytic takes"}, "FILE"),
            option({"set", Words{&o.settings}, "config value for --config, key.path=value, e.g. dataset.limit=1000"},
                   "KEY=VALUE"),
            option({"condition", &o.condition,
                    "numbers that are the condition, of a network trained with dataset.condition or a simulator: "
                    "y1=0.3,y2=-1"},
                   "NAME=X,..."),
            option({.key = "num",
                    .value = Number<std::optional<int64_t>>{&o.num, 1, 1'000'000},
                    .meaning = "number of images or points",
                    .by_default = fmt::format("{}, or a little more to fill the rows of classes; {} points",
                                              kDefaultNum, kDefaultPoints)}),
            option({"seed", Number<int64_t>{&o.seed, 0, INT64_MAX}, "random seed for the noise"}),
            option({"latents", &o.latents,
                    "safetensors file whose 'latents' (what encode writes) are decoded instead of noise"},
                   "FILE")};
}

/// What is written of them.
std::vector<Option> what_is_written(SampleCommand& o) {
    const std::vector<std::string> of_a_drawing = {"num",          "seed",       "out",  "columns",
                                                   "save_tensors", "trajectory", "scale"};
    return {{.field = {"out", &o.out,
                       "file to write: a PNG grid; of points a figure (.png or .svg, drawn by gnuplot) or a table "
                       "(.csv)"},
             .group = kWritten,
             .value = "FILE",
             .endings = {".png", ".svg", ".csv"}},
            {.field = {"columns", Number<int64_t>{&o.columns, 0, 10'000},
                       "columns of the grid; 0: one for each of a few classes, else as many as rows"},
             .group = kWritten},
            {.field = {"save_tensors", &o.tensors,
                       "safetensors file to write too: 'images', float32 [N, C, H, W] in [-1, 1], or 'points', [N, D]"},
             .group = kWritten,
             .value = "FILE",
             .endings = {".safetensors"}},
            {.field = {"style", Choice{&o.style, {"auto", "scatter", "density"}},
                       "how points are drawn: each as a dot, or how many lie where; auto: scatter up to 10,000"},
             .group = kWritten},
            {.field = {"field", Reals{&o.field, 1e-4, 1e4},
                       "noise levels sigma / alpha, e.g. 0.2,1: a panel for each with the score as arrows, and noisy "
                       "samples"},
             .group = kWritten},
            {.field = {"show_grid", &o.show_grid,
                       "print t, alpha, sigma, their ratio and log-SNR of the noise levels, and draw nothing"},
             .group = kWritten,
             .excludes = of_a_drawing}};
}

}  // namespace

Command sample_command(const std::string& line) {
    const auto options = std::make_shared<SampleCommand>();
    options->command_line = line;
    std::vector<Option> all = what_is_drawn(*options);
    for (auto& option : sampling_options(options->sampling)) {
        if (option.field.key == "class") option.group = kDrawn;
        all.push_back(option);
    }
    append(all, what_is_written(*options));
    append(all, options->rest());
    return {
        .name = "sample",
        .about = "draw images or points from noise, as the checkpoint's config says (sample.*) where no option does",
        .examples = {"diffuse sample --checkpoint runs/demo --num 16 --out digits.png",
                     "diffuse sample --checkpoint runs/demo --solver ddim --eta 1 --steps 50"},
        .options = all,
        .run = [options](const Given& given) {
            options->given = given;
            return run(*options);
        }};
}

}  // namespace diffuse::cli
