#include "diffuse/base/log.hpp"

#include <c10/util/Exception.h>
#include <pty.h>

#include <fstream>
#include <regex>
#include <thread>

#include "diffuse/base/device.hpp"
#include "diffuse/base/file.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

/// What an action writes to stderr, here a file.
std::string on_stderr(const std::function<void()>& action) {
    testing::internal::CaptureStderr();
    action();
    return testing::internal::GetCapturedStderr();
}

/// What an action writes to stderr where that is a terminal (which turns each "\n" into "\r\n").
std::string on_terminal(const std::function<void()>& action, unsigned short columns = 80, const char* kind = "xterm") {
    int terminal = -1, other_end = -1;
    setenv("TERM", kind, /*overwrite=*/1);
    winsize size{24, columns, 0, 0};
    if (openpty(&terminal, &other_end, nullptr, nullptr, &size) != 0) throw std::runtime_error("no terminal");
    std::string text;
    std::thread reader([&] {  // until the other end is closed
        char part[1024];
        for (ssize_t count; (count = ::read(terminal, part, sizeof part)) > 0;) text.append(part, size_t(count));
    });
    const int before = dup(STDERR_FILENO);
    dup2(other_end, STDERR_FILENO);
    close(other_end);
    action();
    dup2(before, STDERR_FILENO);
    close(before);
    reader.join();
    close(terminal);
    return text;
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
    std::vector<std::string> lines;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
}

void say_all() {
    log::debug("detail");
    log::info("news");
    log::warn("doubt");
    log::error("end");
}

class Log : public testing::Test {
protected:
    void TearDown() override {
        log::set_stderr_level(log::Level::kInfo);
        log::open_file("/dev/null");
    }
    TemporaryFolder folder_;
};

TEST_F(Log, StderrShowsInfoPlainAndLevelsBeforeTheOthers) {
    EXPECT_EQ(on_stderr(say_all), "news\nwarning: doubt\nerror: end\n");
}

TEST_F(Log, QuietLeavesWarningsAndErrorsAndNoProgress) {
    log::set_stderr_level(log::Level::kWarn);
    EXPECT_EQ(on_stderr([] {
                  say_all();
                  log::show_progress("step 1/2");
              }),
              "warning: doubt\nerror: end\n");
}

TEST_F(Log, TheProgressLineFitsOnTheTerminal) {
    const auto show = [] { log::show_progress("step 1/2 and more"); };
    EXPECT_EQ(on_terminal(show, 9), "\r\033[Kstep 1/2");
    log::clear_progress();
    EXPECT_EQ(on_terminal(show, 80, "dumb"), "step 1/2 and more\r\n");
}

TEST_F(Log, VerboseShowsDetailsToo) {
    log::set_stderr_level(log::Level::kDebug);
    EXPECT_EQ(on_stderr(say_all), "debug: detail\nnews\nwarning: doubt\nerror: end\n");
}

TEST_F(Log, TheFileHasAllLevelsWithTheirTimesWhateverStderrShows) {
    log::set_stderr_level(log::Level::kError);
    log::open_file(folder_ / "log.txt");
    on_stderr(say_all);
    const std::string time = R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d )";
    const auto lines = lines_of(folder_ / "log.txt");
    const std::vector<std::string> expected = {"debug   detail", "info    news", "warning doubt", "error   end"};
    ASSERT_EQ(lines.size(), expected.size());
    for (size_t i = 0; i < lines.size(); ++i) {
        EXPECT_TRUE(std::regex_match(lines[i], std::regex(time + expected[i]))) << lines[i];
    }
}

TEST_F(Log, OpeningAFileAgainAppends) {
    for (int i = 0; i < 2; ++i) {
        log::open_file(folder_ / "log.txt");
        log::debug("again");
    }
    EXPECT_EQ(lines_of(folder_ / "log.txt").size(), 2u);
}

TEST_F(Log, AFileThatCannotBeOpenedIsAnError) {
    expect_contains(error_of([&] { log::open_file(folder_.path()); }), "Is a directory");
}

TEST_F(Log, AFileThatTakesNoTextIsPassedOverInSilence) {
    log::open_file("/dev/full");
    EXPECT_EQ(on_stderr(say_all), "news\nwarning: doubt\nerror: end\n");
}

TEST_F(Log, AMessageIsOneLineWithoutEscapeCodes) {
    EXPECT_EQ(on_stderr([] { log::info("a\nb\033[31m{}%v\177"); }), "a b [31m{}%v \n");
}

TEST_F(Log, LinesOfSeveralThreadsStayWhole) {
    constexpr int kThreads = 4, kMessages = 500;
    log::open_file(folder_ / "log.txt");
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([t] {
            for (int i = 0; i < kMessages; ++i) log::debug(std::string(100, char('a' + t)));
        });
    }
    for (auto& thread : threads) thread.join();
    const auto lines = lines_of(folder_ / "log.txt");
    ASSERT_EQ(lines.size(), size_t{kThreads * kMessages});
    for (const auto& line : lines) EXPECT_TRUE(std::regex_search(line, std::regex(R"( (\w)\1{99}$)"))) << line;
}

TEST_F(Log, ProgressIsOnePlainLineEachWhereStderrIsNoTerminal) {
    EXPECT_EQ(on_stderr([] {
                  log::show_progress("step 1/2");
                  log::info("news");
                  log::clear_progress();
              }),
              "step 1/2\nnews\n");
}

TEST_F(Log, OnATerminalTheProgressLineStaysBelowMessages) {
    const std::string erase = "\r\033[K";
    EXPECT_EQ(on_terminal([] {
                  log::show_progress("step 1/2");
                  log::debug("hidden");
                  log::info("news");
                  log::clear_progress();
                  log::info("end");
              }),
              erase + "step 1/2" + erase + "news\r\nstep 1/2" + erase + "end\r\n");
}

TEST_F(Log, OnATerminalMessagesAndProgressOfSeveralThreadsStayApart) {
    constexpr int kTimes = 5000;
    std::string text = on_terminal([] {
        std::thread worker([] {
            for (int i = 0; i < kTimes; ++i) log::info("news");
        });
        for (int i = 0; i < kTimes; ++i) log::show_progress("step 1/2");
        worker.join();
        log::clear_progress();
    });
    text = std::regex_replace(text, std::regex("\r\033\\[K"), "|");
    EXPECT_FALSE(std::regex_search(text, std::regex("step 1/2[^|]|[^|\n]news")));
}

TEST_F(Log, ProgressIsNotInTheFile) {
    log::open_file(folder_ / "log.txt");
    on_stderr([] { log::show_progress("step 1/2"); });
    on_terminal([] {
        log::show_progress("step 1/2");
        log::clear_progress();
    });
    EXPECT_TRUE(lines_of(folder_ / "log.txt").empty());
}

TEST_F(Log, WhatLibTorchWarnsOfIsOneLine) {
    const auto warn_in_a_thread = [] {
        std::thread([] {
            log_libtorch_warnings();
            TORCH_WARN("two\nlines");
        }).join();
    };
    EXPECT_EQ(on_stderr(warn_in_a_thread), "warning: two lines\n");
}

}  // namespace
}  // namespace diffuse
