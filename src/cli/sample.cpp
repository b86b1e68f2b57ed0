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
    if (options.latents.empty()) check(options.sampling);  // else the file has a say
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
    const bool otherwise = options.take_defaults(*options.command, made_by, what);
    return otherwise ? fmt::format("{}: made by {}; decoded otherwise", options.latents, stored->second) : "";
}

/// A warning where the file's latents were made with another network than they are to be decoded with.
void warn_of_other_weights(const SampleCommand& options, const TensorFile& file, const Checkpoint& checkpoint) {
    const auto stored = file.metadata.find(kWeightsKey);
    if (!options.analytic.empty()) return;
    const std::string own = identity(checkpoint, options.sampling.weights);
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
    const bool reversible = options.sampling.solver_kind().make(0)->second_state() != nullptr;
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

/// Columns and scale of the picture of so many images. `cycle`: of how many classes, one after the other; a column
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

/// As the command line says, else as the file of latents does.
Condition given_of_file(const SampleCommand& options, const TensorFile& file, const Checkpoint& checkpoint,
                        int64_t count) {
    if (!options.given.empty()) return given_numbers(options, checkpoint, count);
    const Condition& given = file.at("given", options.latents);
    const std::vector<int64_t> expected = {count, std::ssize(checkpoint.given_columns)};
    if (given.scalar_type() == torch::kFloat32 && given.sizes() == expected) return given;
    throw Error(fmt::format("{}: its 'given' are not float32 [{}]; say them by --given", options.latents,
                            fmt::join(expected, ", ")));
}

/// The class of each of the latents of a file: as the command line says, else as the file does, else none.
Condition condition_of_file(const SampleCommand& options, const TensorFile& file, const Checkpoint& checkpoint,
                            int64_t count) {
    const Classes known = checkpoint.classes();
    if (!checkpoint.given_columns.empty()) return given_of_file(options, file, checkpoint, count);
    if (options.command->count("--class") > 0) return condition_of(options.sampling, known, count);
    const auto found = file.tensors.find("classes");
    if (found == file.tensors.end() || known.count == 0) return {};
    const Condition& classes = found->second;
    const bool fits = classes.dim() == 1 && classes.size(0) == count && classes.scalar_type() == torch::kInt64 &&
                      classes.ge(0).all().item<bool>() && classes.le(known.count).all().item<bool>();
    if (fits) return classes;
    throw Error(fmt::format("{}: its 'classes' are not int64 [{}] from 0 to {}; say them by --class", options.latents,
                            count, known.count));
}

void write_tensors(const SampleCommand& options, const torch::Tensor& samples, const char* name,
                   const Condition& condition, const PngTexts& origin) {
    if (options.tensors.empty()) return;
    TensorFile file{{{name, samples}}, {origin.begin(), origin.end()}};
    if (condition.defined()) file.tensors[condition.is_floating_point() ? "given" : "classes"] = condition;
    write_tensor_file(options.tensors, file);
}

void write_files(const SampleCommand& options, const torch::Tensor& x, const Condition& condition, const Layout& shown,
                 const PngTexts& origin, const Model& model, const Columns& columns, torch::Device device) {
    if (model.shape.points) {
        write_points(options, x, condition, model, columns, device);
        return write_tensors(options, restored(x, columns).to(torch::kFloat32), "points", condition, origin);
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
std::string settle(SampleCommand& options, const std::optional<TensorFile>& file, const Checkpoint& checkpoint) {
    const std::string warning = file ? take_from_file(options, *file) : "";
    if (!file) options.take_defaults(*options.command, checkpoint.config.sample, checkpoint.name);
    check(options.sampling);
    if (file && options.command->count("--seed") > 0 && !options.sampling.stochastic()) {
        throw Error(
            fmt::format("--seed changes nothing: --latents is where {} starts, and it draws no noise; leave it out",
                        options.sampling.solver));
    }
    return warning;
}

/// How the samples came about; in closed form, of which data.
PngTexts origin_of_samples(const SampleCommand& options, const Source& source, int64_t steps) {
    PngTexts origin = options.origin(source.checkpoint, steps);
    for (auto& [key, value] : origin) {
        if (!source.exact) break;
        if (key == "checkpoint") key = "data", value = source.checkpoint.training.data;
        if (key == kWeightsKey) value = "the denoiser " + options.analytic + " in closed form";
    }
    origin.emplace_back("seed", std::to_string(options.seed));
    return origin;
}

/// What is to be drawn: from where, of which classes, and how it is shown.
struct Drawing {
    Start start;
    Condition condition;
    Layout shown;
};

Drawing drawing_of_file(const SampleCommand& options, const TensorFile& file, const Checkpoint& checkpoint) {
    const Start start = start_from(options, file, checkpoint.shape);
    const int64_t count = start.x.size(0);
    return {start, condition_of_file(options, file, checkpoint, count), layout(options, count, 1, checkpoint.shape)};
}

Drawing drawing_of_noise(const SampleCommand& options, const Checkpoint& checkpoint) {
    const Classes known = checkpoint.classes();
    const int64_t cycle = cycle_of(options.sampling, known);
    const int64_t count = options.num.value_or(default_num(cycle, checkpoint.shape));
    const Layout shown = layout(options, count, cycle, checkpoint.shape);  // before the memory is taken
    return {{sampling_noise(uint64_t(options.seed), 0, count, checkpoint.shape.sizes(), 0), {}},
            checkpoint.given_columns.empty() && options.given.empty() ? condition_of(options.sampling, known, count)
                                                                      : given_numbers(options, checkpoint, count),
            shown};
}

Result draw(const SampleCommand& options, const Drawing& drawing, const Source& source, torch::Device device) {
    check_guidance(options.sampling, drawing.condition);
    const Model model = source.model(options.sampling.weights, device);
    Sampler sampler = make_sampler(options.sampling, model, device);
    sampler.second_states = drawing.start.second_states;
    sampler.seed = uint64_t(options.seed);
    sampler.condition = drawing.condition;
    const int64_t steps = std::ssize(sampler.grid) - 1;
    PngTexts origin = origin_of_samples(options, source, steps);
    const auto result = run_with_progress("sampling: step", sampler, drawing.start.x,
                                          {options.trajectory, options.scale, options.with_command(origin)});
    write_files(options, result.x, drawing.condition, drawing.shown, origin, model, source.checkpoint.columns, device);
    return summary(options, result, steps);
}

Result run(SampleCommand options) {
    check_before_work(options);
    const auto device = options.runtime.apply();
    const Source source = load_source(options, device);
    const Checkpoint& checkpoint = source.checkpoint;
    std::optional<TensorFile> file;
    if (!options.latents.empty()) file = read_tensor_file(options.latents);
    const std::string warning = settle(options, file, checkpoint);
    check_outputs({options.out, options.tensors, options.trajectory}, {options.sampling.guide});
    if (options.show_grid) {
        const Grid grid =
            make_grid(options.sampling, make_schedule(checkpoint.config.schedule), checkpoint.shape.numel());
        return show_grid(grid, options.json);
    }
    check_kind_of_files(options, checkpoint);
    const Drawing drawing = file ? drawing_of_file(options, *file, checkpoint) : drawing_of_noise(options, checkpoint);
    if (!warning.empty()) log::warn(warning);
    if (file) warn_of_other_weights(options, *file, checkpoint);
    return draw(options, drawing, source, device);
}

/// Where the samples come from and how many they are.
void add_what(CLI::App& command, SampleCommand& options) {
    command
        .add_option("--analytic", options.analytic,
                    "denoiser in closed form instead of a network; gaussian: of the data's mean and covariance; "
                    "mixture: the law that points are drawn from; empirical: the data set itself; local: patches of it")
        ->check(known_name("analytic denoiser", analytic_names()))
        ->type_name("NAME")
        ->group(kDrawn);
    command.add_option("--config", options.config, "JSON file whose data set and schedule --analytic takes")
        ->type_name("FILE")
        ->group(kDrawn);
    command.add_option("--set", options.settings, "config value for --config, key.path=value, e.g. dataset.limit=1000")
        ->type_name("KEY=VALUE")
        ->group(kDrawn);
    command
        .add_option("--given", options.given,
                    "numbers that the network is told, of one trained with dataset.condition or a simulator: "
                    "y1=0.3,y2=-1")
        ->type_name("NAME=X,...")
        ->group(kDrawn);
    command.add_option("--num", options.num, "number of images or points")
        ->transform(range<int64_t>(1, 1'000'000))
        ->type_name("N")
        ->group(kDrawn)
        ->default_str(
            fmt::format("{}, or a little more to fill the rows of classes; {} points", kDefaultNum, kDefaultPoints));
    command.add_option("--seed", options.seed, "random seed for the noise")
        ->transform(range<int64_t>(0, INT64_MAX))
        ->type_name("N")
        ->group(kDrawn)
        ->capture_default_str();
    command
        .add_option("--latents", options.latents,
                    "safetensors file whose 'latents' (what encode writes) are decoded instead of noise")
        ->type_name("FILE")
        ->group(kDrawn);
}

/// What is written of them.
void add_written(CLI::App& command, SampleCommand& options) {
    command
        .add_option("--out", options.out,
                    "file to write: a PNG grid; of points a picture (.png or .svg, drawn by gnuplot) or a table (.csv)")
        ->check(ending({".png", ".svg", ".csv"}))
        ->type_name("FILE")
        ->group(kWritten)
        ->capture_default_str();
    command
        .add_option("--columns", options.columns,
                    "columns of the grid; 0: one for each of a few classes, else as many as rows")
        ->transform(range<int64_t>(0, 10'000))
        ->type_name("N")
        ->group(kWritten)
        ->capture_default_str();
    command
        .add_option("--save-tensors", options.tensors,
                    "safetensors file to write too: 'images', float32 [N, C, H, W] in [-1, 1], or 'points', [N, D]")
        ->check(ending({".safetensors"}))
        ->type_name("FILE")
        ->group(kWritten);
    command
        .add_option("--style", options.style,
                    "picture of points: each as a dot, or how many lie where; scatter up to 10,000, else density")
        ->check(known_name("style", {"scatter", "density"}))
        ->type_name("NAME")
        ->group(kWritten);
    command
        .add_option(
            "--field", options.field,
            "noise levels sigma / alpha, e.g. 0.2,1: a panel for each with the score as arrows, and noisy samples")
        ->delimiter(',')
        ->transform(range<double>(1e-4, 1e4))
        ->type_name("X,...")
        ->group(kWritten);
    command
        .add_flag("--show-grid", options.show_grid,
                  "print t, alpha, sigma, their ratio and log-SNR of the levels, and draw nothing")
        ->group(kWritten);
}

/// Where the grid is shown nothing is drawn, so what only a drawing has is refused.
void forbid_with_show_grid(CLI::App& command) {
    for (const char* name : {"--num", "--seed", "--out", "--columns", "--save-tensors", "--trajectory", "--scale"}) {
        command.get_option("--show-grid")->excludes(command.get_option(name));
    }
}

}  // namespace

void add_sample(CLI::App& app, Result& result, const std::string& command_line) {
    auto options = std::make_shared<SampleCommand>();
    auto* command = app.add_subcommand(
        "sample", "draw images or points from noise, as the checkpoint's config says (sample.*) where no option does");
    options->command = command;
    options->command_line = command_line;
    options->add_to(*command, kDrawn);
    command->get_option("--class")->group(kDrawn);
    command->get_option("--checkpoint")->required(false);
    for (const std::string name : {"--solver", "--guidance"}) {
        auto* option = command->get_option(name);
        option->default_str(fmt::format("the checkpoint's, else {}", option->get_default_str()));
    }
    add_what(*command, *options);
    add_written(*command, *options);
    options->add_rest(*command);
    forbid_with_show_grid(*command);
    command->footer(
        "diffuse sample --checkpoint runs/demo --num 16 --out digits.png\n"
        "diffuse sample --checkpoint runs/demo --solver ddim --eta 1 --steps 50");
    command->callback([options, &result] { result = run(*options); });
}

}  // namespace diffuse::cli
