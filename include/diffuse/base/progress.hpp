#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

namespace diffuse {

/// Seconds since construction.
class Stopwatch {
public:
    double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// "1:05" or "2:03:09"
std::string format_duration(double seconds);

/// A progress line (log.hpp) for work of which `done` was done before: redrawn in place on a terminal, else a plain
/// line now and then; nothing for work that is over within a second. Safe to update from several threads.
class Progress {
public:
    Progress(std::string what, int64_t total, int64_t done = 0);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// `details` is only called, to be shown behind the count, when the line is drawn.
    void update(
        int64_t done, const std::function<std::string()>& details = [] { return std::string(); });

private:
    std::string line(int64_t done, const std::string& details) const;

    std::string what_;
    int64_t total_, done_before_;
    double next_draw_;
    Stopwatch watch_;
    std::mutex mutex_;
};

}  // namespace diffuse
