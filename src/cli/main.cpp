#include <ATen/Context.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstdio>

#include "cli/common.hpp"
#include "diffuse/base/device.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"

namespace {

/// Says what went wrong, as the last line on stderr.
int fail(const std::string& message, int exit_code) {
    diffuse::log::error(message);
    return exit_code;
}

/// What CLI11 could make nothing of: a mistyped command or option, or an argument too many.
std::string unexpected(const CLI::App& command, const std::vector<std::string>& arguments) {
    std::vector<std::string> known;
    const bool is_option = arguments.front().starts_with('-');
    if (!is_option && command.get_parent() == nullptr) {
        for (const auto* child : command.get_subcommands({})) known.push_back(child->get_name());
        return diffuse::unknown_name("command", arguments.front(), known);
    }
    if (!is_option) return fmt::format("unexpected argument '{}'", arguments.front());
    for (const auto* option : command.get_options()) {
        for (const auto& name : option->get_lnames()) known.push_back("--" + name);
    }
    const auto nearest = diffuse::nearest_name(arguments.front(), known);
    return fmt::format("unknown option '{}'{}", arguments.front(),
                       nearest ? fmt::format("; did you mean '{}'?", *nearest) : "");
}

/// One line for whatever the command line got wrong.
int usage_error(const CLI::App& app, const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    const CLI::App& command = chosen.empty() ? app : *chosen.front();
    auto extras = command.remaining();
    const bool in_command = !chosen.empty();
    std::stable_partition(extras.begin(), extras.end(),
                          [=](const std::string& text) { return text.starts_with('-') == in_command; });
    const std::string name = chosen.empty() ? "diffuse" : "diffuse " + command.get_name();
    return fail(fmt::format("{} (see {} --help)", extras.empty() ? error.what() : unexpected(command, extras), name),
                diffuse::kBadInput);
}

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

/// Where stderr was closed, a file opened later would get its number, and everything that is logged.
void keep_stderr_open() {
    if (fcntl(STDERR_FILENO, F_GETFD) >= 0) return;
    [[maybe_unused]] const FILE* null = std::freopen("/dev/null", "w", stderr);
}

}  // namespace

int main(int argc, char** argv) {
    // A reader that went away and a limit on file sizes are failed writes like any other, not reasons to die unsaved.
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ, SIG_IGN);
    keep_stderr_open();
    keep_freed_memory();
    diffuse::log_libtorch_warnings();
    // Numbers too small for a full mantissa cost a hundred times the others. Threads started from here on inherit this.
    at::globalContext().setFlushDenormal(true);
    CLI::App app("diffuse trains, samples and inverts small diffusion models.", "diffuse");
    app.set_version_flag("--version", "diffuse " DIFFUSE_VERSION " (LibTorch " TORCH_VERSION ")");
    app.require_subcommand(1);
    diffuse::cli::add_train(app);
    diffuse::cli::add_sample(app);
    diffuse::cli::add_encode(app);
    diffuse::cli::add_eval(app);
    diffuse::cli::add_info(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return error.get_exit_code() == 0 ? app.exit(error) : usage_error(app, error);
    } catch (const diffuse::Error& error) {
        return fail(error.what(), error.exit_code);
    } catch (const std::exception& error) {  // memory that cannot be had, and what LibTorch refuses
        const std::string message = error.what();
        if (message.find("allocate memory") != std::string::npos || dynamic_cast<const std::bad_alloc*>(&error)) {
            return fail(
                "not enough memory; fewer images (--num, --batch), a smaller train.batch_size or a smaller "
                "network need less",
                diffuse::kRunFailed);
        }
        return fail(message.substr(0, message.find('\n')), diffuse::kRunFailed);
    }
    return diffuse::kSuccess;
}
