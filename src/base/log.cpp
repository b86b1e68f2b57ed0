#include "diffuse/base/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"

namespace diffuse::log {
namespace {

constexpr const char* kEraseLine = "\r\033[K";

/// "warning: " and the like; nothing before what the user is simply told.
class LevelPrefix : public spdlog::custom_flag_formatter {
public:
    void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
        if (message.level == spdlog::level::info) return;
        const auto name = spdlog::level::to_string_view(message.level);
        out.append(name.begin(), name.end());
        out.append(std::string_view(": "));
    }
    std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<LevelPrefix>(); }
};

/// Appends whole lines; spdlog's own file sink leaves a part of one when the disk is full.
class FileSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
public:
    explicit FileSink(const std::filesystem::path& path) : file_(path) {
        set_formatter_(std::make_unique<spdlog::pattern_formatter>("%Y-%m-%dT%H:%M:%S.%e%z %-7l %v",
                                                                   spdlog::pattern_time_type::local, /*eol=*/""));
    }

private:
    void sink_it_(const spdlog::details::log_msg& message) override {
        spdlog::memory_buf_t line;
        formatter_->format(message, line);
        file_.append({line.data(), line.size()});
    }
    void flush_() override {}

    LineFile file_;
};

/// Colours on a terminal that has them, unless the user asked for none (https://no-color.org).
spdlog::sink_ptr stderr_sink() {
    const char* no_color = std::getenv("NO_COLOR");
    return std::make_shared<spdlog::sinks::ansicolor_stderr_sink_st>(
        no_color && *no_color ? spdlog::color_mode::never : spdlog::color_mode::automatic);
}

/// A sink that shows messages as a person reads them, at first from kInfo on.
spdlog::sink_ptr readable(spdlog::sink_ptr sink) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<LevelPrefix>('*').set_pattern("%^%*%$%v");
    sink->set_formatter(std::move(formatter));
    sink->set_level(spdlog::level::info);
    return sink;
}

/// The one log of the program. Its mutex guards spdlog too, whose sinks are those without a mutex of their own, so that
/// a message and the progress line below it change together.
struct Log {
    std::mutex mutex;
    spdlog::sink_ptr terminal = readable(stderr_sink());
    std::ostream* stream = nullptr;  // what stands in for stderr
    spdlog::logger logger{"diffuse", terminal};
    std::string progress;  // what is drawn on a terminal now

    Log() {
        logger.set_level(spdlog::level::debug);
        logger.set_error_handler([](const std::string&) {});  // see log.hpp: no error
    }
};

Log& the_log() {
    static Log log;
    return log;
}

/// Progress, which is no message.
void print(const Log& log, const std::string& text) {
    if (log.stream) {
        *log.stream << text << std::flush;
        return;
    }
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
}

/// As much of a line as fits on the terminal: one that wraps could not be drawn anew at its place.
std::string fitting(const std::string& line) {
    winsize size{};
    const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    return line.substr(0, known ? size.ws_col - 1 : 79);
}

void write(spdlog::level::level_enum level, const std::string& message) {
    Log& log = the_log();
    const std::lock_guard lock(log.mutex);
    const bool below_progress = !log.progress.empty() && log.terminal->should_log(level);
    if (below_progress) print(log, kEraseLine);
    log.logger.log(level, spdlog::string_view_t(printable(message)));
    if (below_progress) print(log, log.progress);
}

/// Both have the levels in the same order.
spdlog::level::level_enum to_spdlog(Level level) { return spdlog::level::level_enum(SPDLOG_LEVEL_DEBUG + int(level)); }

std::shared_ptr<FileSink> file_sink(const std::filesystem::path& path) {
    try {
        return std::make_shared<FileSink>(path);
    } catch (const Error& error) {  // nothing has been run yet
        throw Error(error.what(), kBadInput);
    }
}

}  // namespace

void debug(const std::string& message) { write(spdlog::level::debug, message); }
void info(const std::string& message) { write(spdlog::level::info, message); }
void warn(const std::string& message) { write(spdlog::level::warn, message); }
void error(const std::string& message) { write(spdlog::level::err, message); }

std::string printable(std::string text) {
    for (char& c : text) {
        if ((c >= 0 && c < ' ') || c == 127) c = ' ';
    }
    return text;
}

void set_stderr_level(Level lowest) { the_log().terminal->set_level(to_spdlog(lowest)); }

void set_silent(bool silent) { the_log().logger.set_level(silent ? spdlog::level::off : spdlog::level::debug); }

void set_stream(std::ostream* stream) {
    Log& log = the_log();
    const std::lock_guard lock(log.mutex);
    const auto before = log.terminal;
    log.stream = stream;
    log.terminal = readable(stream ? std::make_shared<spdlog::sinks::ostream_sink_st>(*stream) : stderr_sink());
    log.terminal->set_level(before->level());
    std::ranges::replace(log.logger.sinks(), before, log.terminal);
}

void open_file(const std::filesystem::path& path) {
    auto sink = file_sink(path);
    Log& log = the_log();
    const std::lock_guard lock(log.mutex);
    log.logger.sinks() = {log.terminal, std::move(sink)};
}

void close_file() {
    Log& log = the_log();
    const std::lock_guard lock(log.mutex);
    log.logger.sinks() = {log.terminal};
}

bool on_terminal() {
    const char* kind = std::getenv("TERM");
    return !the_log().stream && isatty(STDERR_FILENO) && (!kind || std::string_view(kind) != "dumb");
}

void show_progress(const std::string& line) {
    Log& log = the_log();
    const std::lock_guard lock(log.mutex);
    if (!log.terminal->should_log(spdlog::level::info) || !log.logger.should_log(spdlog::level::info)) return;
    if (!on_terminal()) return print(log, line + "\n");
    log.progress = fitting(line);
    print(log, kEraseLine + log.progress);
}

void clear_progress() {
    Log& log = the_log();
    const std::lock_guard lock(log.mutex);
    if (!log.progress.empty()) print(log, kEraseLine);
    log.progress.clear();
}

}  // namespace diffuse::log
