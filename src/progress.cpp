#include "diffuse/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace diffuse {
namespace {

constexpr double kFirstDraw = 1, kTerminalInterval = 0.2, kLogInterval = 10;  // seconds

}  // namespace

std::string format_duration(double seconds) {
    const int64_t whole = int64_t(seconds + 0.5), hours = whole / 3600, minutes = whole / 60 % 60;
    if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60);
    return fmt::format("{}:{:02}", minutes, whole % 60);
}

// Nothing is done about a stderr that takes no text: it must not end a training.
void log_line(const std::string& text) { std::fputs((text + "\n").c_str(), stderr); }

Progress::Progress(std::string what, int64_t total, int64_t done)
    : what_(std::move(what)),
      total_(total),
      done_before_(done),
      terminal_(isatty(STDERR_FILENO)),
      next_draw_(kFirstDraw) {}

Progress::~Progress() { erase(); }

void Progress::update(int64_t done, const std::function<std::string()>& details) {
    const std::lock_guard lock(mutex_);
    if (watch_.seconds() < next_draw_) return;
    next_draw_ = watch_.seconds() + (terminal_ ? kTerminalInterval : kLogInterval);
    draw(done, details());
}

void Progress::draw(int64_t done, const std::string& details) {
    const double left = watch_.seconds() / double(std::max<int64_t>(1, done - done_before_)) * double(total_ - done);
    const auto line = fmt::format("{} {}/{}{}{}  {} left", what_, done, total_, details.empty() ? "" : "  ", details,
                                  format_duration(left));
    if (terminal_)
        std::fputs(("\r\033[K" + line).c_str(), stderr);
    else
        log_line(line);
    std::fflush(stderr);
    drawn_ = true;
}

void Progress::erase() {
    if (terminal_ && drawn_) std::fputs("\r\033[K", stderr);
    drawn_ = false;
}

}  // namespace diffuse
