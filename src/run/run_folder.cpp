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
    if (replace) files.insert(files.end(), {path / kLogName, path / "samples", path / kCopiesName});
    for (const auto& file : files) fs::remove_all(file, error);
    create_folder(path / "samples");
    return folder;
}

RunFolder RunFolder::open(const fs::path& path) {
    if (!path_exists(path / kConfigName)) {
        throw Error(fmt::format("{} holds no run: there is no {}", display_path(path), kConfigName));
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
