#include <fmt/format.h>

#include <cmath>

#include "cli/common.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kWhat = "What is drawn";
constexpr int64_t kDefaultNum = 64, kMaxCycle = 16;

struct Options : SamplingCommand {
    const CLI::App* command = nullptr;
    std::optional<int64_t> num;
    int64_t seed = 0, columns = 0;
    bool show_grid = false;
    std::string out = "samples.png", tensors, latents;
};

void check_before_work(const Options& options) {
    if (options.latents.empty()) check(options.sampling);  // else the file has a say
    check_outputs({options.out, options.tensors, options.trajectory},
                  {checkpoint_file(options.checkpoint).string(), options.latents});
}

/// The options that made the file's latents where the command line gives none. Returns a warning where it gives others.
std::string take_from_file(Options& options, const TensorFile& file) {
    const auto stored = file.metadata.find(kSamplingKey);
    if (stored == file.metadata.end()) return "";
    const std::string what = fmt::format("{}: its '{}'", options.latents, kSamplingKey);
    SampleOptions made_by;
    read(fields(made_by), parse_json(stored->second, what), what);
    const bool otherwise = options.take_defaults(*options.command, made_by, what);
    return otherwise ? fmt::format("{}: made by {}; decoded otherwise", options.latents, stored->second) : "";
}

/// A warning where the file's latents were made with another network than they are to be decoded with.
void warn_of_other_weights(const Options& options, const TensorFile& file, const Checkpoint& checkpoint) {
    const auto stored = file.metadata.find(kWeightsKey);
    const std::string own = identity(checkpoint, options.sampling.weights);
    if (stored == file.metadata.end() || stored->second == own) return;
    log::warn(fmt::format("{}: made with another network ({}), decoded with {}", options.latents, stored->second, own));
}

/// What sampling starts from: the latents of a file, or noise; and the second states of a reversible solver, if any.
struct Start {
    torch::Tensor x, second_states;
};

Start start_from(const Options& options, const TensorFile& file, const ImageShape& shape) {
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
void show_grid(const Grid& grid, bool as_json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    std::string text = "        t        alpha        sigma  sigma / alpha    log-SNR";
    for (const auto& level : grid) {
        json.push_back({{"t", level.t}, {"alpha", level.alpha}, {"sigma", level.sigma}, {"ratio", level.ratio()}});
        if (level.sigma > 0) json.back()["log_snr"] = level.log_snr();
        text += fmt::format("\n{:9.3f}  {:11.8f}  {:11.8f}  {:13.6f}  {:9.4f}", level.t, level.alpha, level.sigma,
                            level.ratio(), level.log_snr());
    }
    print_result(as_json, json, text);
}

/// Columns and scale of the picture of so many images. `cycle`: of how many classes, one after the other; a column
/// shows one class where they are few. Throws Error where it would be too large.
struct Layout {
    int64_t columns, scale;
};
Layout layout(const Options& options, int64_t count, int64_t cycle, const ImageShape& shape) {
    const int64_t square = int64_t(std::ceil(std::sqrt(double(count))));
    const int64_t by_default = cycle > 1 && cycle <= kMaxCycle ? cycle : square;
    const int64_t columns = options.columns > 0 ? options.columns : by_default;
    const int64_t scale = sheet_scale(options.scale, shape.height, shape.width);
    require_sheet(count, columns, shape.height, shape.width, scale);
    return {columns, scale};
}

/// How many are drawn where nobody says: of a few classes as many as fill their rows.
int64_t default_num(int64_t cycle) {
    return cycle > 1 && cycle <= kMaxCycle ? (kDefaultNum + cycle - 1) / cycle * cycle : kDefaultNum;
}

/// The class of each of the latents of a file: as the command line says, else as the file does, else none.
Condition condition_of_file(const Options& options, const TensorFile& file, const Classes& known, int64_t count) {
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

void write_files(const Options& options, const torch::Tensor& images, const Condition& condition, const Layout& shown,
                 const PngTexts& origin) {
    write_png(options.out, sheet(to_bytes(images), shown.columns, shown.scale), options.with_command(origin));
    if (options.tensors.empty()) return;
    TensorFile file{{{"images", images}}, {origin.begin(), origin.end()}};
    if (condition.defined()) file.tensors["classes"] = condition;
    write_tensor_file(options.tensors, file);
}

/// ", guided by scale 2 (w = 1)": both ways in which papers count.
std::string guidance_words(const SampleOptions& options) {
    if (options.guidance == 1) return "";
    return fmt::format(", guided by scale {:g} (w = {:g})", options.guidance, options.guidance - 1);
}

void print(const Options& options, const TimedSamples& result, int64_t steps) {
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
    json["images_per_second"] = per_second;
    print_result(options.json, json,
                 fmt::format("{} by {} in {} ({} each){}: {:.1f} s, {:.1f} images/s", plural(count, "image"),
                             options.sampling.solver, plural(steps, "step"), plural(result.nfe, "network evaluation"),
                             guidance_words(options.sampling), result.seconds, per_second),
                 {{"png", options.out}, {"tensors", options.tensors}, {"trajectory", options.trajectory}});
}

/// Settles the options that the command line leaves open: with a file of latents as they were made (the program's
/// defaults where it does not tell), else as the checkpoint's config says. Returns a warning where a file is decoded
/// otherwise than it was made.
std::string settle(Options& options, const std::optional<TensorFile>& file, const Checkpoint& checkpoint) {
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

/// What is to be drawn: from where, of which classes, and how it is shown.
struct Drawing {
    Start start;
    Condition condition;
    Layout shown;
};

Drawing drawing_of_file(const Options& options, const TensorFile& file, const Checkpoint& checkpoint) {
    const Classes known = checkpoint.classes();
    const Start start = start_from(options, file, checkpoint.shape);
    const int64_t count = start.x.size(0);
    return {start, condition_of_file(options, file, known, count), layout(options, count, 1, checkpoint.shape)};
}

Drawing drawing_of_noise(const Options& options, const Checkpoint& checkpoint) {
    const Classes known = checkpoint.classes();
    const int64_t cycle = cycle_of(options.sampling, known);
    const int64_t count = options.num.value_or(default_num(cycle));
    const Layout shown = layout(options, count, cycle, checkpoint.shape);  // before the memory is taken
    return {{sampling_noise(uint64_t(options.seed), 0, count, checkpoint.shape.sizes(), 0), {}},
            condition_of(options.sampling, known, count),
            shown};
}

void draw(const Options& options, const Drawing& drawing, const Checkpoint& checkpoint, torch::Device device) {
    check_guidance(options.sampling, drawing.condition);
    Sampler sampler = make_sampler(options.sampling, make_model(checkpoint, options.sampling.weights, device), device);
    sampler.second_states = drawing.start.second_states;
    sampler.seed = uint64_t(options.seed);
    sampler.condition = drawing.condition;
    const int64_t steps = std::ssize(sampler.grid) - 1;
    PngTexts origin = options.origin(checkpoint, steps);
    origin.emplace_back("seed", std::to_string(options.seed));
    auto result = run_with_progress("sampling: step", sampler, drawing.start.x,
                                    {options.trajectory, options.scale, options.with_command(origin)});
    result.x.clamp_(-1, 1);  // without --clip-x0 a pixel may end a little outside
    write_files(options, result.x, drawing.condition, drawing.shown, origin);
    print(options, result, steps);
}

void run(Options options) {
    check_before_work(options);
    const auto device = options.runtime.apply();
    const Checkpoint checkpoint = load_to_run(options.checkpoint, device);
    std::optional<TensorFile> file;
    if (!options.latents.empty()) file = read_tensor_file(options.latents);
    const std::string warning = settle(options, file, checkpoint);
    check_outputs({options.out, options.tensors, options.trajectory}, {options.sampling.guide});
    if (options.show_grid) {
        const Grid grid =
            make_grid(options.sampling, make_schedule(checkpoint.config.schedule), checkpoint.shape.numel());
        return show_grid(grid, options.json);
    }
    const Drawing drawing = file ? drawing_of_file(options, *file, checkpoint) : drawing_of_noise(options, checkpoint);
    if (!warning.empty()) log::warn(warning);
    if (file) warn_of_other_weights(options, *file, checkpoint);
    draw(options, drawing, checkpoint, device);
}

}  // namespace

void add_sample(CLI::App& app, const std::string& command_line) {
    auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand(
        "sample", "draw images from noise, as the checkpoint's config says (sample.*) where no option does");
    options->command = command;
    options->command_line = command_line;
    options->add_to(*command, kWhat);
    command->get_option("--class")->group(kWhat);
    for (const std::string name : {"--solver", "--guidance"}) {
        auto* option = command->get_option(name);
        option->default_str(fmt::format("the checkpoint's, else {}", option->get_default_str()));
    }
    command->add_option("--num", options->num, "number of images")
        ->transform(range<int64_t>(1, 1'000'000))
        ->type_name("N")
        ->group(kWhat)
        ->default_str(fmt::format("{}, or a little more to fill the rows of classes", kDefaultNum));
    command->add_option("--seed", options->seed, "random seed for the noise")
        ->transform(range<int64_t>(0, INT64_MAX))
        ->type_name("N")
        ->group(kWhat)
        ->capture_default_str();
    command
        ->add_option("--latents", options->latents,
                     "safetensors file whose 'latents' (what encode writes) are decoded instead of noise")
        ->type_name("FILE")
        ->group(kWhat);
    command->add_option("--out", options->out, "PNG grid to write")
        ->check(ending({".png"}))
        ->type_name("FILE")
        ->group(kWritten)
        ->capture_default_str();
    command
        ->add_option("--columns", options->columns,
                     "columns of the grid; 0: one for each of a few classes, else as many as rows")
        ->transform(range<int64_t>(0, 10'000))
        ->type_name("N")
        ->group(kWritten)
        ->capture_default_str();
    command
        ->add_option("--save-tensors", options->tensors,
                     "safetensors file to write too: 'images', float32 [N, C, H, W] in [-1, 1]")
        ->check(ending({".safetensors"}))
        ->type_name("FILE")
        ->group(kWritten);
    auto* show_grid = command
                          ->add_flag("--show-grid", options->show_grid,
                                     "print t, alpha, sigma, their ratio and log-SNR of the levels, and draw nothing")
                          ->group(kWritten);
    options->add_rest(*command);
    for (const char* name : {"--num", "--seed", "--out", "--columns", "--save-tensors", "--trajectory", "--scale"}) {
        show_grid->excludes(command->get_option(name));
    }
    command->footer(
        "diffuse sample --checkpoint runs/demo --num 16 --out digits.png\n"
        "diffuse sample --checkpoint runs/demo --solver ddim --eta 1 --steps 50");
    command->callback([options] { run(*options); });
}

}  // namespace diffuse::cli
