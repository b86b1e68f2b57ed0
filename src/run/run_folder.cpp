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

std::map<int64_t, fs::path> copies_by_step(const fs::path& folder) {
    std::error_code error;
    std::map<int64_t, fs::path> by_step;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        long long step = 0;
        if (std::sscanf(entry.path().filename().c_str(), "step-%lld.safetensors", &step) == 1) by_step[step] = entry;
    }
    return by_step;
}

/// The files that a run left in its folder, by the names that it gives them; what else lies there is somebody's own.
std::vector<fs::path> files_of_run(const fs::path& path) {
    std::vector<fs::path> files = {path / kConfigName, path / kMetricsName, path / kCheckpointName, path / kLogName};
    std::error_code error;
    for (const char* folder : {"samples", kCopiesName}) {
        for (const auto& entry : fs::directory_iterator(path / folder, error)) {
            const std::string name = entry.path().filename().string();
            const std::string ending = entry.path().extension().string();
            if (name.starts_with("step-") && (ending == ".png" || ending == ".safetensors")) files.push_back(entry);
        }
    }
    return files;
}

}  // namespace

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
    create_folder(path / "samples");
    return folder;
}

RunFolder RunFolder::open(const fs::path& path) {
    if (!path_exists(path / kConfigName)) {
        throw Error(fmt::format("{} holds no run: there is no {}", display_path(path), kConfigName));
    }
    std::error_code error;
    const bool has_begun = fs::file_size(path / kMetricsName, error) > 0 && !error;
    if (!path_exists(path / kCheckpointName) && (has_begun || !copies_by_step(path / kCopiesName).empty())) {
        throw Error(
            fmt::format("{0} has lost its {1}; copy the one to resume from there (the latest are in {0}/{2}, if "
                        "train.keep_checkpoints kept any), or begin anew with --config, --out and --force",
                        display_path(path), kCheckpointName, kCopiesName));
    }
    RunFolder folder(path);
    create_folder(path / "samples");
    for (const auto& place : {path, path / "samples", path / kCopiesName}) remove_temporaries(place);
    return folder;
}

void RunFolder::save(const Checkpoint& checkpoint, int64_t copies) const {
    if (copies > 0 && checkpoint.step > 0) keep_copy(checkpoint, copies);
    save_checkpoint(path_ / kCheckpointName, checkpoint);
}

void RunFolder::keep_copy(const Checkpoint& checkpoint, int64_t copies) const {
    const fs::path folder = path_ / kCopiesName;
    create_folder(folder);
    save_checkpoint(folder / fmt::format("step-{:07}.safetensors", checkpoint.step), checkpoint);
    auto by_step = copies_by_step(folder);
    std::error_code error;
    while (std::ssize(by_step) > copies) fs::remove(by_step.extract(by_step.begin()).mapped(), error);
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
