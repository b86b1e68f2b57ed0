#include "diffuse/run/run_folder.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>

#include "diffuse/base/error.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/run/model.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

constexpr const char *kCopiesName = "checkpoints", *kAbandonedName = "abandoned";
constexpr const char* kPreviewEndings[] = {".png", ".csv"};
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
    for (const char* ending : kPreviewEndings) {
        for (const auto& [step, file] : by_step(path / kSamplesName, ending)) files.push_back(file);
    }
    for (const auto& [step, file] : by_step(path / kCopiesName, ".safetensors")) files.push_back(file);
    return files;
}

/// abandoned/1, abandoned/2, ...: those that are there, and then the first that is not.
std::vector<fs::path> abandoned_folders(const fs::path& path) {
    std::vector<fs::path> folders;
    do folders.push_back(path / kAbandonedName / std::to_string(folders.size() + 1));
    while (path_exists(folders.back()));
    return folders;
}

/// Removes a run's files, and of its folders those that are then empty.
void remove_run(const fs::path& path) {
    std::error_code error;
    for (const auto& file : files_of_run(path)) fs::remove(file, error);
    for (const auto& folder : abandoned_folders(path)) {
        if (!path_exists(folder)) continue;
        remove_run(folder);
        fs::remove(folder / ".lock", error);
        for (const auto& emptied : {folder / kSamplesName, folder / kCopiesName, folder}) fs::remove(emptied, error);
    }
    fs::remove(path / kAbandonedName, error);
}

/// What a killed save left.
void clear_temporaries(const fs::path& path) {
    for (const auto& place : {path, path / kSamplesName, path / kCopiesName}) remove_temporaries(place);
}

/// The folder of the run that `path` is, or is a checkpoint of.
fs::path folder_of(const fs::path& path) {
    if (is_folder(path) || !path_exists(path)) return path;
    const fs::path folder = fs::absolute(path).lexically_normal().parent_path();
    return folder.filename() == kCopiesName ? folder.parent_path() : folder;
}

/// A file under another name too: as a link, which takes no room, where the file system has them.
void put_under(const fs::path& file, const fs::path& name) {
    std::error_code error;
    if (fs::equivalent(file, name, error)) return;        // a rename of one to the other would do nothing
    const fs::path temporary = name.string() + ".0.tmp";  // a name that `remove_temporaries` knows
    fs::remove(temporary, error);
    fs::create_hard_link(file, temporary, error);
    if (error) fs::copy_file(file, temporary, error);
    if (!error) fs::rename(temporary, name, error);
    if (error) throw Error(fmt::format("cannot write {}: {}", display_path(name), error.message()), kRunFailed);
}

/// Moves the files of a `step_name` after `step` from one folder into another.
void move_later(const fs::path& from, const fs::path& to, const std::string& ending, int64_t step) {
    std::error_code error;
    for (const auto& [of, file] : by_step(from, ending)) {
        if (of <= step) continue;
        create_folder(to);
        fs::rename(file, to / file.filename(), error);
        if (error) throw Error(fmt::format("cannot move {}: {}", display_path(file), error.message()), kRunFailed);
    }
}

bool has_later(const fs::path& folder, const std::string& ending, int64_t step) {
    const auto files = by_step(folder, ending);
    return !files.empty() && files.rbegin()->first > step;
}

/// A checkpoint, or why it cannot be loaded.
struct Attempt {
    std::optional<Checkpoint> checkpoint;
    std::string problem;
};
Attempt try_to_load(const fs::path& file) {
    try {
        return {load_to_resume(file), ""};
    } catch (const Error& error) {
        return {std::nullopt, error.what()};
    }
}

}  // namespace

std::string step_name(int64_t step, const std::string& ending) { return fmt::format("step-{:07}{}", step, ending); }

bool RunFolder::has_run(const fs::path& path) {
    return path_exists(path / kConfigName) || path_exists(path / kMetricsName) || path_exists(path / kCheckpointName);
}

void RunFolder::check_new(const fs::path& path, bool replace) {
    if (has_run(path) && !replace) {
        throw RunExists(fmt::format("{} already holds a run", display_path(path)));
    }
    for (const auto& file : files_of_run(path)) {
        if (!is_folder(file)) continue;
        throw Error(fmt::format("{} is a folder, where a file of the run would be; give the run another folder",
                                display_path(file)));
    }
    fs::path above = fs::absolute(path).lexically_normal();
    while (!path_exists(above) && above.has_relative_path()) above = above.parent_path();
    if (is_folder(above) && access(above.c_str(), W_OK | X_OK) == 0) return;
    const std::string problem = is_folder(above) ? std::strerror(errno) : display_path(above) + " is no folder";
    throw Error(fmt::format("cannot create the folder {}: {}", display_path(path), problem));
}

RunFolder RunFolder::create(const fs::path& path, bool replace) {
    check_new(path, replace);
    create_folder(path);
    RunFolder folder(path);
    check_new(path, replace);  // another training may have come and gone
    if (replace && has_run(path)) {
        for (const auto& other : abandoned_folders(path)) {
            if (path_exists(other)) FolderLock{other};  // throws where a training is at work in it
        }
        remove_run(path);
    }
    create_folder(path / kSamplesName);
    clear_temporaries(path);  // also of a training that was killed before it had its config
    return folder;
}

RunFolder RunFolder::open(const fs::path& given) {
    const fs::path path = folder_of(given);
    if (!path_exists(path / kConfigName) && !path_exists(path / kCheckpointName)) {
        throw Error(fmt::format("{} holds no run: there is no {}", display_path(path), kConfigName));
    }
    RunFolder folder(path);
    const fs::path metrics = path / kMetricsName;
    if (path_exists(metrics) && access(metrics.c_str(), W_OK) != 0) {
        throw Error(fmt::format("cannot write {}: {}", display_path(metrics), std::strerror(errno)));
    }
    create_folder(path / kSamplesName);
    clear_temporaries(path);
    return folder;
}

std::optional<Checkpoint> RunFolder::checkpoint_to_resume(const fs::path& given) const {
    if (!is_folder(given)) return load_to_resume(given);
    const fs::path latest = path() / kCheckpointName;
    const bool is_there = path_exists(latest);
    const Attempt own = is_there ? try_to_load(latest) : Attempt{std::nullopt, display_path(latest) + " is lost"};
    if (own.checkpoint) {
        keep_copy(own.checkpoint->step, own.checkpoint->config.train.keep_checkpoints);  // after a kill between the two
        return own.checkpoint;
    }
    const auto copies = by_step(path() / kCopiesName, ".safetensors");
    for (auto copy = copies.rbegin(); copy != copies.rend(); ++copy) {
        auto kept = try_to_load(copy->second);
        if (!kept.checkpoint) continue;
        log::warn(fmt::format("{}; taking the newest copy that is whole, {}", own.problem, display_path(copy->second)));
        return std::move(kept.checkpoint);
    }
    std::error_code error;
    const bool has_begun = fs::file_size(path() / kMetricsName, error) > 0 && !error;
    if (!is_there && !has_begun && copies.empty()) return std::nullopt;
    throw Error(
        fmt::format("{}, and no whole copy was kept (train.keep_checkpoints); begin a new run, in its place "
                    "or elsewhere",
                    own.problem));
}

fs::path RunFolder::go_back_to(const Checkpoint& checkpoint) const {
    const fs::path latest = path() / kCheckpointName;
    const bool is_there = path_exists(latest);
    const Attempt own = is_there ? try_to_load(latest) : Attempt{};
    const bool is_own = own.checkpoint && identity(*own.checkpoint, "raw") == identity(checkpoint, "raw");
    const bool leaves_own = is_there && !is_own;
    fs::path abandoned;
    if (leaves_own || has_later(path() / kCopiesName, ".safetensors", checkpoint.step)) {
        abandoned = abandoned_folders(path()).back();
        create_folder(abandoned);
        const Config& left = own.checkpoint ? own.checkpoint->config : checkpoint.config;
        write_file(abandoned / kConfigName, to_text(to_json(left), 2) + "\n");
        if (path_exists(path() / kMetricsName)) {
            write_file(abandoned / kMetricsName, read_file(path() / kMetricsName, kMaxMetricsBytes));
        }
        if (leaves_own) put_under(latest, abandoned / kCheckpointName);
        move_later(path() / kCopiesName, abandoned / kCopiesName, ".safetensors", checkpoint.step);
        for (const char* ending : kPreviewEndings) {
            move_later(path() / kSamplesName, abandoned / kSamplesName, ending, checkpoint.step);
        }
    }
    if (!is_own) save_checkpoint(latest, checkpoint);
    return abandoned;
}

void RunFolder::save(const Checkpoint& checkpoint, int64_t copies) const {
    save_checkpoint(path() / kCheckpointName, checkpoint);
    keep_copy(checkpoint.step, copies);
}

void RunFolder::keep_copy(int64_t step, int64_t copies) const {
    const fs::path folder = path() / kCopiesName, copy = folder / step_name(step, ".safetensors");
    if (copies == 0 || step == 0) return;
    create_folder(folder);
    put_under(path() / kCheckpointName, copy);
    auto kept = by_step(folder, ".safetensors");
    std::error_code error;
    while (std::ssize(kept) > copies) fs::remove(kept.extract(kept.begin()).mapped(), error);
}

double RunFolder::trim_metrics(int64_t step) const {
    const fs::path path = lock_.folder() / kMetricsName;
    if (!path_exists(path)) return 0;
    const std::string text = read_file(path, kMaxMetricsBytes);
    double seconds = 0;
    size_t kept = 0, foreign = 0;
    for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', kept)) {
        const auto line = nlohmann::json::parse(std::string_view(text).substr(kept, end - kept), nullptr, false);
        const auto number = [&](const char* key) {
            return line.is_object() && line.contains(key) && line[key].is_number() ? line[key].get<double>() : 0;
        };
        if (number("step") > double(step)) break;
        foreign += !line.is_object();
        seconds = number("wall_seconds");
        kept = end + 1;
    }
    if (foreign > 0)
        log::warn(fmt::format("{}: {} of its lines are no metrics; left as they are", display_path(path), foreign));
    std::error_code error;
    if (kept < text.size()) fs::resize_file(path, kept, error);
    if (error) throw Error(fmt::format("cannot cut {}: {}", display_path(path), error.message()), kRunFailed);
    return seconds;
}

}  // namespace diffuse
