#pragma once

#include <filesystem>
#include <optional>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/run/checkpoint.hpp"

namespace diffuse {

/// Names inside a run folder: the resolved config, a line every log_every steps, and what was logged, which
/// whoever runs a training opens (log.hpp).
inline constexpr const char *kConfigName = "config.json", *kMetricsName = "metrics.jsonl", *kLogName = "log.txt";

inline constexpr const char* kSamplesName = "samples";  ///< the folder of the previews

/// "step-0001000.png": how the previews and the copies of checkpoints are called.
std::string step_name(int64_t step, const std::string& ending);

/// The folder holds a run already.
struct RunExists : Error {
    using Error::Error;
};

/// Where a run keeps its files: config.json, metrics.jsonl, log.txt, checkpoint.safetensors, samples/ and checkpoints/
/// in one folder, which no other training can enter while the object lives. What a run had beyond the step that it went
/// back to is kept in abandoned/1, abandoned/2, ..., each the folder of a run.
class RunFolder {
public:
    /// Creates the folder. Throws RunExists when it already holds a run, unless `replace`, which removes that run's
    /// files, and Error when another training is at work in it.
    static RunFolder create(const std::filesystem::path& path, bool replace);
    /// Opens the folder of a run to resume it, and clears away what a killed save left. `path`: the folder, or one of
    /// its checkpoints (see `checkpoint_to_resume`). Throws Error as above.
    static RunFolder open(const std::filesystem::path& path);

    /// Whether there is a run in this folder.
    static bool has_run(const std::filesystem::path& path);
    /// Where `create` would make a run. Throws Error as it does, and writes nothing.
    static void check_new(const std::filesystem::path& path, bool replace);
    /// Where it is now (`FolderLock::folder`).
    std::filesystem::path path() const { return lock_.folder(); }

    /// `path`, as given to `open`, when it is a file; else the run's latest checkpoint, or, with a warning, the newest
    /// kept copy that is whole where that one is missing or damaged. None where nothing was saved yet. Throws Error,
    /// touching nothing, where there is none that is whole.
    std::optional<Checkpoint> checkpoint_to_resume(const std::filesystem::path& path) const;
    /// Makes this checkpoint the run's latest: later ones, with their samples and metrics, go to a folder in
    /// abandoned/, whose path is returned; empty where there is nothing later.
    std::filesystem::path go_back_to(const Checkpoint& checkpoint) const;

    /// Replaces the run's checkpoint. With `copies`, it is kept under its step too, and the oldest of such copies
    /// beyond that number are removed.
    void save(const Checkpoint& checkpoint, int64_t copies) const;
    /// Keeps the run's checkpoint, which is of this step, under it too, as `save` does.
    void keep_copy(int64_t step, int64_t copies) const;
    /// Cuts metrics.jsonl before the first line after `step`: what a run that was killed wrote after its last
    /// checkpoint will be written again. A line cut short by the end goes too. Returns the wall_seconds of the last
    /// line that stays.
    double trim_metrics(int64_t step) const;

private:
    explicit RunFolder(const std::filesystem::path& path) : lock_(path) {}
    FolderLock lock_;
};

}  // namespace diffuse
