#include "cli/common.hpp"

#include <fmt/ranges.h>

#include <sys/stat.h>
#include <unistd.h>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/run/machine.hpp"

namespace diffuse::cli {

void add_checkpoint(CLI::App& command, std::string& path, const char* group) {
    command.add_option("--checkpoint", path, "checkpoint file or run folder")
        ->required()
        ->type_name("RUN")
        ->group(group);
}

void add_data(CLI::App& command, std::string& folder, const char* group) {
    command
        .add_option("--data", folder,
                    "folder of the data set, or CSV file of a table, where it is not where the training had it")
        ->type_name("DIR")
        ->group(group);
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

void add_json(CLI::App& command, bool& json) {
    command.add_flag("--json", json, "print the result as one JSON object")->group(kWritten);
}

void SamplingCommand::add_to(CLI::App& command, const char* group) {
    add_checkpoint(command, checkpoint, group);
    add_options(command, fields(sampling), kHow);
    command.get_option("--nfe")->excludes("--steps");
    command.get_option("--batch")->group(kMachine);
    command.get_option("--guide")->type_name("RUN");
}

SampleOptions with_given(const CLI::App& command, const SampleOptions& given, SampleOptions base,
                         const std::string& what) {
    const auto is_given = [&](const std::string& key) {
        const auto* option = command.get_option_no_throw(option_name(key));
        return option && option->count() > 0;
    };
    base.batch = given.batch;  // the machine's affair
    if (is_given("solver")) base.solver = given.solver;
    if (is_given("spacing")) base.spacing = given.spacing;
    if (is_given("guidance")) base.guidance = given.guidance;
    base = without_idle(base);
    SampleOptions result = given;
    nlohmann::json merged = to_json(fields(base));
    const auto own = to_json(fields(result));
    for (const auto& [key, value] : own.items()) {
        if (!is_given(key)) continue;
        if (key == "steps" || key == "nfe") merged["steps"] = merged["nfe"] = nullptr;  // one instead of the other
        if (merged.contains(key)) merged[key] = value;
    }
    read(fields(result), merged, what);
    return result;
}

bool SamplingCommand::take_defaults(const CLI::App& command, const SampleOptions& base, const std::string& what) {
    SampleOptions made_by = base;
    made_by.direction = sampling.direction;
    sampling = with_given(command, sampling, made_by, what);
    made_by.batch = sampling.batch;
    SampleOptions chosen = sampling;
    return to_json(fields(chosen)) != to_json(fields(made_by));
}

void SamplingCommand::add_rest(CLI::App& command) {
    command
        .add_option("--trajectory", trajectory,
                    "file (.png or .gif) for how the first images form, x_t and x0; takes an evaluation more a step, "
                    "which is not counted")
        ->check(ending({".png", ".gif"}))
        ->type_name("FILE")
        ->group(kWritten);
    command.add_option("--scale", scale, "pixels a side that a pixel is shown as in pictures")
        ->transform(range<int64_t>(1, 64))
        ->type_name("N")
        ->default_str("2 for images under 64 pixels, else 1")
        ->group(kWritten);
    add_json(command, json);
    runtime.add_to(command);
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

void check_no_pictures(const std::vector<std::string>& paths) {
    for (const auto& path : paths) {
        if (!path.empty()) throw Error(fmt::format("{} would show pictures, and these are points; leave it out", path));
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
