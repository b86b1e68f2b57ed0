#include <ATen/Context.h>
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "cli/program.hpp"
#include "diffuse/base/device.hpp"
#include "diffuse/base/error.hpp"

namespace {

/// Feature maps are allocated and freed thousands of times a second: memory once had is kept instead of going back to
/// the system, whose fresh pages would have to be cleared and mapped again at each step.
void keep_freed_memory() {
#ifdef __GLIBC__
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_TOP_PAD, 64 << 20);
    mallopt(M_ARENA_MAX, 1);  // arenas of further threads cannot hold a large map
#endif
}

/// Where a standard stream was closed, a file opened later would get its number, and what is logged or printed. What is
/// then opened cannot be written, so that a result which goes nowhere is no success.
void keep_standard_streams() {
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (fcntl(stream, F_GETFD) >= 0) continue;
        [[maybe_unused]] const int null = open("/dev/null", O_RDONLY);  // gets the lowest free number: this one
    }
}

/// A reader that went away and a limit on file sizes are failed writes like any other, not reasons to die unsaved.
void prepare_for_writing() {
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
    keep_standard_streams();
}

}  // namespace

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)  // whose own start comes later still
extern "C" {
using Constructor = void(int, char**, char**);
extern Constructor *__init_array_start[], *__init_array_end[];  // those of this program, without its libraries'
}

namespace {

/// Where the current folder was removed, LibTorch's libraries end the process with a riddle while they start.
void require_current_folder() {
    char path[PATH_MAX];
    if (getcwd(path, sizeof path) || errno != ENOENT) return;
    constexpr std::string_view kMessage = "error: the current folder was removed; change into another\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage.data(), kMessage.size());
    _exit(diffuse::kBadInput);
}

constexpr int kNoAnswer = 255;  ///< no exit code of a command

/// Answers what needs no LibTorch, in a process of its own: the constants of this program are made there already, and
/// must not be made twice in one.
[[noreturn]] void answer_in_child(int argc, char** argv, char** environment) {
    environ = environment;
    for (auto* constructor = __init_array_start; constructor < __init_array_end; ++constructor) {
        (*constructor)(argc, argv, environment);
    }
    prepare_for_writing();
    _exit(diffuse::cli::answer({argv + 1, argv + argc}, {std::cout}).value_or(kNoAnswer));
}

/// Called when the libraries are loaded and have not started, which takes LibTorch's a quarter of a second.
void before_libraries(int argc, char** argv, char** environment) {
    require_current_folder();
    const pid_t child = fork();
    if (child == 0) answer_in_child(argc, argv, environment);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return;
    if (WEXITSTATUS(status) != kNoAnswer) _exit(WEXITSTATUS(status));
}
[[gnu::section(".preinit_array"), gnu::used]] Constructor* const called_before_libraries = before_libraries;

}  // namespace
#endif

int main(int argc, char** argv) {
    prepare_for_writing();
    keep_freed_memory();
    diffuse::log_libtorch_warnings();
    // Numbers too small for a full mantissa cost a hundred times the others. Threads started from here on inherit this.
    at::globalContext().setFlushDenormal(true);
    const int code = diffuse::cli::run({argv + 1, argv + argc}, {std::cout});
#ifdef __SANITIZE_ADDRESS__
    return code;  // what was lost is told at the end
#else
    std::quick_exit(code);  // LibTorch takes a tenth of a second to clear away what the system does at once
#endif
}
