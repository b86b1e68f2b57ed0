#include "diffuse/run/run_folder.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <map>

#include "diffuse/base/error.hpp"
#include "diffuse/base/json.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

constexpr const char* kCopiesName = "checkpoints";
constexpr uintmax_t kMaxMetricsBytes = uintmax_t{1} << 32;

/// The files of a folder that have a `step_name`, by step.
std::map<int64_t, fs::path> by_step(const fs::path& folder, const std::string& ending) {
    std::error_code error;
    std::map<int64_t, fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        long long step = 0;
        if (std::sscanf(name.c_str(), "step-%lld", &step) == 1 && name == step_name(step, ending)) files[step] = entry;
    }
    return files;
}

/// The files that a run left in its folder, by the names that it gives them; what else lies there is somebody's own.
std::vector<fs::path> files_of_run(const fs::path& path) {
    std::vector<fs::path> files = {path / kConfigName, path / kMetricsName, path / kCheckpointName, path / kLogName};
    for (const auto& [step, file] : by_step(path / kSamplesName, ".png")) files.push_back(file);
    for (const auto& [step, file] : by_step(path / kCopiesName, ".safetensors")) files.push_back(file);
    return files;
}

/// What a killed save left.
void clear_temporaries(const fs::path& path) {
    for (const auto& place : {path, path / kSamplesName, path / kCopiesName}) remove_temporaries(place);
}

}  // namespace

std::string step_name(int64_t step, const std::string& ending) { return fmt::format("step-{:07}{}", step, ending); }

RunFolder RunFolder::create(const fs::path& path, bool replace) {
    std::vector<fs::path> files = {path / kConfigName, path / kMetricsName, path / kCheckpointName};
    const bool has_run =
        std::any_of(files.begin(), files.end(), [](const fs::path& file) { return path_exists(file); });
    if (has_run && !replace) {
        throw Error(
            fmt::format("{0} already holds a run; resume it by diffuse train --resume {0}, give another "
                        "folder with --out, or --force to replace it",
                        display_path(path)));
    }
    create_folder(path);
    RunFolder folder(path);
    std::error_code error;
    for (const auto& file : replace ? files_of_run(path) : files) fs::remove(file, error);
    if (replace) clear_temporaries(path);
    create_folder(path / kSamplesName);
    return folder;
}

RunFolder RunFolder::open(const fs::path& path) {
    if (!path_exists(path / kConfigName)) {
        throw Error(fmt::format("{} holds no run: there is no {}", display_path(path), kConfigName));
    }
    std::error_code error;
    const bool has_begun = fs::file_size(path / kMetricsName, error) > 0 && !error;
    if (!path_exists(path / kCheckpointName) && (has_begun || !by_step(path / kCopiesName, ".safetensors").empty())) {
        throw Error(
            fmt::format("{0} has lost its {1}; copy the one to resume from there (the latest are in {0}/{2}, if "
                        "train.keep_checkpoints kept any), or begin anew with --config, --out and --force",
                        display_path(path), kCheckpointName, kCopiesName));
    }
    RunFolder folder(path);
    create_folder(path / kSamplesName);
    clear_temporaries(path);
    return folder;
}

void RunFolder::save(const Checkpoint& checkpoint, int64_t copies) const {
    if (copies > 0 && checkpoint.step > 0) keep_copy(checkpoint, copies);
    save_checkpoint(path_ / kCheckpointName, checkpoint);
}

void RunFolder::keep_copy(const Checkpoint& checkpoint, int64_t copies) const {
    const fs::path folder = path_ / kCopiesName;
    create_folder(folder);
    save_checkpoint(folder / step_name(checkpoint.step, ".safetensors"), checkpoint);
    auto kept = by_step(folder, ".safetensors");
    std::error_code error;
    while (std::ssize(kept) > copies) fs::remove(kept.extract(kept.begin()).mapped(), error);
}

double RunFolder::trim_metrics(int64_t step) const {
    const fs::path path = path_ / kMetricsName;
    if (!path_exists(path)) return 0;
    const std::string text = read_file(path, kMaxMetricsBytes);
    double seconds = 0;
    size_t kept = 0;
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', kept)) {
        const auto line = nlohmann::json::parse(std::string_view(text).substr(kept, end - kept), nullptr, false);
        const auto number = [&](const char* key) {
            return line.is_object() && line.contains(key) && line[key].is_number() ? line[key].get<double>() : 0;
        };
        if (number("step") > double(step)) break;
        seconds = number("wall_seconds");
        kept = end + 1;
    }
    std::error_code error;
    if (kept < text.size()) fs::resize_file(path, kept, error);
    if (error) throw Error(fmt::format("cannot cut {}: {}", display_path(path), error.message()), kRunFailed);
    return seconds;
}

}  // namespace diffuse
