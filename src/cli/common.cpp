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

Option checkpoint_option(std::string& path) {
    return {.field = {"checkpoint", &path, "checkpoint file or run folder"}, .value = "RUN"};
}

Option data_option(std::string& folder) {
    return {.field = {"data", &folder,
                      "folder of the data set, or CSV file of a table, where it is not where the training had it"},
            .value = "DIR",
            .instead = {"dataset.dir", "dataset.file"}};
}

Option json_option(bool& json) { return {.field = {"json", &json, "print the result as one JSON object"}}; }

std::vector<Option> RuntimeOptions::options() {
    return grouped(kMachine,
                   {{.field = {"device", &device, "auto, cpu, cuda or cuda:N"}, .value = "DEVICE"},
                    {.field = {"threads", Number<int64_t>{&threads, 0, 1024},
                               "CPU threads; 0: one for each core that the process may use"}},
                    {.field = {"quiet", &quiet, "print the result, warnings and errors only, and no progress"}},
                    {.field = {"verbose", &verbose, "print details too"}, .excludes = {"quiet"}}});
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

std::string plural(int64_t count, const std::string& noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

Checkpoint load_to_run(const std::string& path, torch::Device device) {
    Checkpoint checkpoint = load_checkpoint(path);
    log::debug(
        fmt::format("{}, step {}: {}", display_path(checkpoint_file(path)), checkpoint.step, describe_use(device)));
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

void check_outputs(const Files& files, std::vector<std::string> inputs) {
    for (const auto& [name, path] : files) {
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

void check_kind(const Given& given, const ExampleShape& shape, const std::vector<std::string>& of_images,
                const std::vector<std::string>& of_points) {
    for (const auto& key : shape.points ? of_images : of_points) {
        if (!given.contains(key)) continue;
        throw Error(fmt::format("{} is of {}, and these are {}s; leave it out", option_name(key),
                                shape.points ? "images" : "points", noun(shape)));
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
