#include "diffuse/base/progress.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "diffuse/base/log.hpp"

namespace diffuse {
namespace {

constexpr double kFirstDraw = 1, kTerminalInterval = 0.2, kPlainInterval = 10;  // seconds

}  // namespace

std::string format_duration(double seconds) {
    const int64_t whole = int64_t(seconds + 0.5), hours = whole / 3600, minutes = whole / 60 % 60;
    if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60);
    return fmt::format("{}:{:02}", minutes, whole % 60);
}

Progress::Progress(std::string what, int64_t total, int64_t done)
    : what_(std::move(what)), total_(total), done_before_(done), next_draw_(kFirstDraw) {}

Progress::~Progress() { log::clear_progress(); }

void Progress::update(int64_t done, const std::function<std::string()>& details) {
    const std::lock_guard lock(mutex_);
    if (watch_.seconds() < next_draw_) return;
    next_draw_ = watch_.seconds() + (log::on_terminal() ? kTerminalInterval : kPlainInterval);
    log::show_progress(line(done, details()));
}

std::string Progress::line(int64_t done, const std::string& details) const {
    const double left = watch_.seconds() / double(std::max<int64_t>(1, done - done_before_)) * double(total_ - done);
    return fmt::format("{} {}/{}{}{}  {} left", what_, done, total_, details.empty() ? "" : "  ", details,
                       format_duration(left));
}

}  // namespace diffuse
