#pragma once

#include <filesystem>

#include "diffuse/base/file.hpp"
#include "diffuse/run/checkpoint.hpp"

namespace diffuse {

/// Names inside a run folder: the resolved config, a line every log_every steps, and what was logged, which
/// whoever runs a training opens (log.hpp).
inline constexpr const char *kConfigName = "config.json", *kMetricsName = "metrics.jsonl", *kLogName = "log.txt";

inline constexpr const char* kSamplesName = "samples";  ///< the folder of the previews

/// "step-0001000.png": how the previews and the copies of checkpoints are called.
std::string step_name(int64_t step, const std::string& ending);

/// Where a run keeps its files: config.json, metrics.jsonl, log.txt, checkpoint.safetensors, samples/ and checkpoints/
/// in one folder, which no other training can enter while the object lives.
class RunFolder {
public:
    /// Creates the folder. Throws Error when it already holds a run, unless `replace`, which removes that run's files,
    /// and when another training is at work in it.
    static RunFolder create(const std::filesystem::path& path, bool replace);
    /// Opens the folder of a run to resume it, and clears away what a killed save left. Throws Error as above.
    static RunFolder open(const std::filesystem::path& path);
    const std::filesystem::path& path() const { return path_; }

    /// Replaces the run's checkpoint. With `copies`, it is kept under its step too, and the oldest of such copies
    /// beyond that number are removed.
    void save(const Checkpoint& checkpoint, int64_t copies) const;
    /// Cuts metrics.jsonl before the first line after `step`: what a run that was killed wrote after its last
    /// checkpoint will be written again. A line cut short by the end goes too. Returns the wall_seconds of the last
    /// line that stays.
    double trim_metrics(int64_t step) const;

private:
    explicit RunFolder(const std::filesystem::path& path) : path_(path), lock_(path) {}
    void keep_copy(const Checkpoint& checkpoint, int64_t copies) const;
    std::filesystem::path path_;
    FolderLock lock_;
};

}  // namespace diffuse
