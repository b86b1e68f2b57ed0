#include "cli/common.hpp"

#include <fmt/ranges.h>

#include <sys/stat.h>
#include <unistd.h>

#include "diffuse/base/device.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/run/machine.hpp"

namespace diffuse::cli {

Option checkpoint_option(std::string& path, const char* group) {
    return {.field = {"checkpoint", &path, "checkpoint file or run folder"}, .group = group, .value = "RUN"};
}

Option data_option(std::string& folder, const char* group) {
    return {.field = {"data", &folder,
                      "folder of the data set, or CSV file of a table, where it is not where the training had it"},
            .group = group,
            .value = "DIR"};
}

Option json_option(bool& json) {
    return {.field = {"json", &json, "print the result as one JSON object"}, .group = kWritten};
}

std::vector<Option> RuntimeOptions::options() {
    return {{.field = {"device", &device, "auto, cpu, cuda or cuda:N"}, .group = kMachine, .value = "DEVICE"},
            {.field = {"threads", Number<int64_t>{&threads, 0, 1024},
                       "CPU threads; 0: one for each core that the process may use"},
             .group = kMachine},
            {.field = {"quiet", &quiet, "print warnings and errors only, and no progress"}, .group = kMachine},
            {.field = {"verbose", &verbose, "print details too"}, .group = kMachine, .excludes = {"quiet"}}};
}

torch::Device RuntimeOptions::apply() const {
    log::set_stderr_level(quiet ? log::Level::kWarn : verbose ? log::Level::kDebug : log::Level::kInfo);
    set_threads(threads);
    const auto chosen = parse_device(device);
    if (chosen.is_cuda()) make_cuda_exact();
    return chosen;
}

DatasetOptions data_of(const Checkpoint& checkpoint, const std::string& folder) {
    DatasetOptions options = checkpoint.config.dataset;
    if (folder.empty()) return options;
    if (options.kind == "table") {
        options.file = folder;
        return options;
    }
    if (!reads_files(options)) throw Error(fmt::format("--data: the data set {} is drawn, not read", options.kind));
    options.dir = folder;
    return options;
}

std::vector<Option> sampling_options(SampleOptions& sampling) {
    auto options = options_of(fields(sampling), kHow);
    for (auto& option : options) {
        if (option.field.key == "nfe") option.excludes = {"steps"};
        if (option.field.key == "batch") option.group = kMachine;
        if (option.field.key == "guide") option.value = "RUN";
        const bool is_of_checkpoint = option.field.key == "solver" || option.field.key == "guidance";
        if (is_of_checkpoint && sampling.direction == Direction::kSampling) {
            option.field.by_default = fmt::format("the checkpoint's, else {}", option.default_value());
        }
    }
    return options;
}

SampleOptions with_given(const Given& given, const SampleOptions& said, SampleOptions base) {
    base.batch = said.batch;  // the machine's affair
    if (given.contains("solver")) base.solver = said.solver;
    if (given.contains("spacing")) base.spacing = said.spacing;
    if (given.contains("guidance")) base.guidance = said.guidance;
    base = without_idle(base);
    base.direction = said.direction;
    SampleOptions copy = said, result = base;
    for (const auto& field : fields(copy)) {
        if (!given.contains(field.key)) continue;
        if (field.key == "steps" || field.key == "nfe") result.steps.reset(), result.nfe.reset();  // one of them
        read(fields(result), {{field.key, value_of(field)}}, /*what=*/"");
    }
    return result;
}

bool SamplingCommand::take_defaults(const Given& given, const SampleOptions& base) {
    SampleOptions made_by = base;
    made_by.direction = sampling.direction;
    sampling = with_given(given, sampling, made_by);
    made_by.batch = sampling.batch;
    SampleOptions chosen = sampling;
    return to_json(fields(chosen)) != to_json(fields(made_by));
}

std::vector<Option> SamplingCommand::rest() {
    std::vector<Option> options = {
        {.field = {"trajectory", &trajectory,
                   "file (.png or .gif) for how the first images form, x_t and x0; takes an evaluation more a step, "
                   "which is not counted"},
         .group = kWritten,
         .value = "FILE",
         .endings = {".png", ".gif"}},
        {.field = {.key = "scale",
                   .value = Number<std::optional<int64_t>>{&scale, 1, 64},
                   .meaning = "pixels a side that a pixel is shown as in images",
                   .by_default = "2 for images under 64 pixels, else 1"},
         .group = kWritten},
        json_option(json)};
    append(options, runtime.options());
    return options;
}

PngTexts SamplingCommand::origin(int64_t steps, const Checkpoint& from) const {
    PngTexts texts = {{"Software", "diffuse " DIFFUSE_VERSION},
                      {"checkpoint", display_path(checkpoint_file(checkpoint))}};
    for (const auto& text : origin_of(sampling, steps, from.data.shape, identity(from, sampling.weights))) {
        texts.push_back(text);
    }
    return texts;
}

PngTexts SamplingCommand::with_command(PngTexts origin) const {
    origin.insert(origin.begin() + 1, {"command", command_line});
    return origin;
}

std::string plural(int64_t count, const std::string& noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

Checkpoint load_to_run(const std::string& path, torch::Device device) {
    Checkpoint checkpoint = load_checkpoint(path);
    log::debug(fmt::format("{}, step {}: {}", display_path(checkpoint_file(path)), checkpoint.step, describe(device)));
    return checkpoint;
}

namespace {

/// Whether two names are of one file, be it there or not.
bool is_same(const std::filesystem::path& a, const std::filesystem::path& b) {
    std::error_code error;
    if (std::filesystem::equivalent(a, b, error)) return true;
    const auto whole = [&](const std::filesystem::path& path) {
        return std::filesystem::weakly_canonical(std::filesystem::absolute(behind_links(path), error), error);
    };
    return whole(a) == whole(b);
}

/// A pipe or terminal that stdout is too.
bool is_standard_output(const std::filesystem::path& path) {
    struct stat file {
    }, output{};
    if (stat(path.c_str(), &file) != 0 || fstat(STDOUT_FILENO, &output) != 0) return false;
    const bool same = file.st_dev == output.st_dev && file.st_ino == output.st_ino;
    return same && (S_ISFIFO(file.st_mode) || isatty(STDOUT_FILENO));
}

}  // namespace

void check_outputs(const std::vector<std::string>& outputs, std::vector<std::string> inputs) {
    for (const auto& path : outputs) {
        if (path.empty()) continue;
        require_writable(path);
        if (is_standard_output(path)) {
            throw Error(
                fmt::format("{} is standard output, where the result is printed; write to a file, or to a pipe "
                            "of its own: >(command)",
                            path));
        }
        for (const auto& other : inputs) {
            if (!other.empty() && is_same(path, other)) {
                throw Error(fmt::format("{} would be written over {}; give it another name", path, other));
            }
        }
        inputs.push_back(path);
    }
}

void require_shape(const torch::Tensor& x, const ExampleShape& shape, const std::string& what) {
    const auto sizes = shape.sizes();
    const bool fits = x.dim() == std::ssize(sizes) + 1 && x.size(0) > 0 && x.sizes().slice(1) == sizes;
    if (!fits || x.scalar_type() != torch::kFloat32) {
        throw Error(fmt::format("{} has shape [{}] and type {}; this checkpoint needs float32 [N, {}]", what,
                                fmt::join(x.sizes(), ", "), c10::toString(x.scalar_type()), fmt::join(sizes, ", ")));
    }
}

void add_condition(TensorFile& file, const Condition& condition) {
    if (condition.classes.defined()) file.tensors["classes"] = condition.classes;
    if (condition.numbers.defined()) file.tensors["given"] = condition.numbers;
}

void check_no_images(const std::vector<std::string>& paths) {
    for (const auto& path : paths) {
        if (!path.empty()) throw Error(fmt::format("{} would show images, and these are points; leave it out", path));
    }
}

Result result_of(bool as_json, const nlohmann::ordered_json& json, const std::string& text, const Files& files) {
    nlohmann::ordered_json all = files.empty() ? json : nlohmann::ordered_json::object();
    std::string lines = text;
    for (const auto& [key, path] : files) {
        if (path.empty()) continue;
        all[key] = display_path(path);
        lines += "\n" + display_path(path);
    }
    if (!files.empty()) all.update(json);
    return {(as_json ? to_text(all) : lines) + "\n"};
}

}  // namespace diffuse::cli
