#include <ATen/Context.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <optional>

#include "cli/common.hpp"
#include "cli/manual.hpp"
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

/// Some words of CLI11 are of its own kind.
std::string in_plain_words(const std::string& problem) {
    const std::string twice = ": At Most 1 required but received ", value = " was given a disallowed flag override";
    if (const size_t end = problem.find(twice); end != std::string::npos) {
        return problem.substr(0, end) + " is given more than once";
    }
    if (problem.ends_with(value)) return fmt::format("--{} takes no value", problem.substr(0, problem.find(value)));
    return problem;
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
    const auto before = app.remaining();
    const std::string problem = !extras.empty()                 ? unexpected(command, extras)
                                : in_command && !before.empty() ? "options come after the command: " + before.front()
                                                                : in_plain_words(error.what());
    return fail(fmt::format("{} (see {} --help)", problem, name), diffuse::kBadInput);
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

/// Where a standard stream was closed, a file opened later would get its number, and what is logged or printed. What is
/// then opened cannot be written, so that a result which goes nowhere is no success.
void keep_standard_streams() {
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (fcntl(stream, F_GETFD) >= 0) continue;
        [[maybe_unused]] const int null = open("/dev/null", O_RDONLY);  // gets the lowest free number: this one
    }
}

/// Flags take no values: "--json=banana" would be one.
void refuse_values_of_flags(CLI::App& app) {
    for (auto* command : app.get_subcommands({})) {
        for (auto* option : command->get_options()) {
            if (option->get_expected_max() == 0) option->disable_flag_override();
        }
    }
}

/// The value that word `i` gives an option called `name`, in it or behind it.
std::optional<std::string> value_of(const std::string& name, const std::vector<std::string>& words, size_t i) {
    if (words[i].starts_with(name + "=")) return words[i].substr(name.size() + 1);
    if (words[i] == name && i + 1 < words.size()) return words[i + 1];
    return std::nullopt;
}

void check_value(const diffuse::cli::OptionManual& option, const std::string& name, const std::string& value) {
    if (option.takes_path() && value.empty()) {
        throw diffuse::Error(fmt::format("{} is empty; name a file or a folder, or leave it out", name));
    }
    const std::string list = "," + value + ",";
    if (option.takes_list && list.find(",,") != std::string::npos) {
        throw diffuse::Error(fmt::format("{}: '{}' has an empty item", name, value));
    }
}

/// What CLI11 would misread: it takes the word behind "--out=" for its value, and leaves out the empty items of a list.
void check_words(const CLI::App& app, const std::vector<std::string>& words) {
    for (const auto& word : words) {
        if (!word.starts_with("--") || word.find('=') + 1 != word.size()) continue;
        throw diffuse::Error(
            fmt::format("{} is empty; give it a value, or leave it out", word.substr(0, word.size() - 1)));
    }
    for (const auto& command : diffuse::cli::manuals_of(app)) {
        if (words.empty() || words.front() != command.name) continue;
        for (const auto& option : command.options) {
            for (size_t i = 1; i < words.size(); ++i) {
                const auto value = option.names.empty() ? std::nullopt : value_of(option.names.back(), words, i);
                if (value) check_value(option, option.names.back(), *value);
            }
        }
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

/// --help and --version, which CLI11 throws.
int print_information(const CLI::App& app, const CLI::ParseError& what) {
    const bool wants_version = dynamic_cast<const CLI::CallForVersion*>(&what) != nullptr;
    diffuse::cli::print(wants_version ? std::string(what.what()) + "\n" : app.help());
    return diffuse::kSuccess;
}

void add_commands(CLI::App& app, const std::string& command_line) {
    using namespace diffuse::cli;
    app.formatter(std::make_shared<HelpFormatter>());
    app.set_help_flag("-h,--help", "print help");
    app.set_version_flag("--version", "diffuse " DIFFUSE_VERSION " (LibTorch " TORCH_VERSION ")", "print the version");
    app.require_subcommand(1);
    app.footer(
        "diffuse train --config configs/demo.json\n"
        "diffuse sample --checkpoint runs/demo --out digits.png");
    add_train(app, command_line);
    add_sample(app, command_line);
    add_encode(app, command_line);
    add_eval(app);
    add_info(app);
    add_lab(app);
    add_help(app);
    add_completion(app);
    refuse_values_of_flags(app);
}

int run(CLI::App& app, int argc, char** argv) {
    check_words(app, {argv + 1, argv + argc});
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return error.get_exit_code() == 0 ? print_information(app, error) : usage_error(app, error);
    }
    return diffuse::kSuccess;
}

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
    CLI::App app("train, sample, invert and measure small diffusion models", "diffuse");
    add_commands(app, diffuse::cli::shell_line(argc, argv));
    try {
        return run(app, argc, argv);
    } catch (const diffuse::Error& error) {
        return fail(error.what(), error.exit_code);
    } catch (const std::exception& error) {  // memory that cannot be had, and what LibTorch refuses
        const std::string message = error.what();
        if (message.find("allocate memory") != std::string::npos || dynamic_cast<const std::bad_alloc*>(&error)) {
            return fail(
                "not enough memory; fewer images at once need less (train: dataset.limit, train.batch_size, a smaller "
                "network; else --num, --batch)",
                diffuse::kRunFailed);
        }
        return fail(message.substr(0, message.find('\n')), diffuse::kRunFailed);
    }
}
