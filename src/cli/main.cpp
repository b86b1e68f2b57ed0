#include <ATen/Context.h>
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
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

#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)  // whose own start comes later still
/// Where the current folder was removed, LibTorch's libraries end the process with a riddle while they are loaded; so
/// this is called before that.
void require_current_folder(int, char**, char**) {
    char path[PATH_MAX];
    if (getcwd(path, sizeof path) || errno != ENOENT) return;
    constexpr std::string_view kMessage = "error: the current folder was removed; change into another\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage.data(), kMessage.size());
    _exit(diffuse::kBadInput);
}
[[gnu::section(".preinit_array"), gnu::used]] void (*const before_libraries)(int, char**,
                                                                             char**) = require_current_folder;
#endif

}  // namespace

int main(int argc, char** argv) {
    // A reader that went away and a limit on file sizes are failed writes like any other, not reasons to die unsaved.
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
    keep_standard_streams();
    keep_freed_memory();
    diffuse::log_libtorch_warnings();
    // Numbers too small for a full mantissa cost a hundred times the others. Threads started from here on inherit this.
    at::globalContext().setFlushDenormal(true);
    return diffuse::cli::run({argv + 1, argv + argc}, {std::cout});
}
