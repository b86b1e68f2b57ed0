#include "cli/program.hpp"

#include <fmt/format.h>
#include <torch/version.h>

#include <optional>

#include "cli/common.hpp"
#include "cli/manual.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse::cli {
namespace {

/// What CLI11 could make nothing of: a mistyped command or option, or an argument too many.
std::string unexpected(const CLI::App& command, const std::vector<std::string>& arguments) {
    std::vector<std::string> known;
    const bool is_option = arguments.front().starts_with('-');
    if (!is_option && command.get_parent() == nullptr) {
        for (const auto* child : command.get_subcommands({})) known.push_back(child->get_name());
        return unknown_name("command", arguments.front(), known);
    }
    if (!is_option) return fmt::format("unexpected argument '{}'", arguments.front());
    for (const auto* option : command.get_options()) {
        for (const auto& name : option->get_lnames()) known.push_back("--" + name);
    }
    const auto nearest = nearest_name(arguments.front(), known);
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
std::string usage_problem(const CLI::App& app, const CLI::ParseError& error) {
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
    return fmt::format("{} (see {} --help)", problem, name);
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

void check_value(const OptionManual& option, const std::string& name, const std::string& value) {
    if (option.takes_path() && value.empty()) {
        throw Error(fmt::format("{} is empty; name a file or a folder, or leave it out", name));
    }
    const std::string list = "," + value + ",";
    if (option.takes_list && list.find(",,") != std::string::npos) {
        throw Error(fmt::format("{}: '{}' has an empty item", name, value));
    }
}

/// What CLI11 would misread: it takes the word behind "--out=" for its value, and leaves out the empty items of a list.
void check_words(const CLI::App& app, const std::vector<std::string>& words) {
    for (const auto& word : words) {
        if (!word.starts_with("--") || word.find('=') + 1 != word.size()) continue;
        throw Error(fmt::format("{} is empty; give it a value, or leave it out", word.substr(0, word.size() - 1)));
    }
    for (const auto& command : manuals_of(app)) {
        if (words.empty() || words.front() != command.name) continue;
        for (const auto& option : command.options) {
            for (size_t i = 1; i < words.size(); ++i) {
                const auto value = option.names.empty() ? std::nullopt : value_of(option.names.back(), words, i);
                if (value) check_value(option, option.names.back(), *value);
            }
        }
    }
}

/// "diffuse sample --out 'two words.png'": a command line as a shell reads it again.
std::string shell_line(const std::vector<std::string>& arguments) {
    std::string line = "diffuse";
    for (const auto& argument : arguments) line += " " + shell_word(argument);
    return line;
}

void add_commands(CLI::App& app, Result& result, const std::string& command_line) {
    app.formatter(std::make_shared<HelpFormatter>());
    app.set_help_flag("-h,--help", "print help");
    app.set_version_flag("--version", "diffuse " DIFFUSE_VERSION " (LibTorch " TORCH_VERSION ")", "print the version");
    app.require_subcommand(1);
    app.footer(
        "diffuse train --config configs/demo.json\n"
        "diffuse sample --checkpoint runs/demo --out digits.png");
    add_train(app, result, command_line);
    add_sample(app, result, command_line);
    add_encode(app, result, command_line);
    add_eval(app, result);
    add_info(app, result);
    add_lab(app, result);
    add_help(app, result);
    add_completion(app, result);
    refuse_values_of_flags(app);
}

/// What --help and --version, which CLI11 throws, show.
Result information(const CLI::App& app, const CLI::ParseError& what) {
    const bool wants_version = dynamic_cast<const CLI::CallForVersion*>(&what) != nullptr;
    return {wants_version ? std::string(what.what()) + "\n" : app.help()};
}

/// Does what a command line says.
Result perform(const std::vector<std::string>& arguments) {
    Result result;
    CLI::App app("train, sample, invert and measure small diffusion models", "diffuse");
    add_commands(app, result, shell_line(arguments));
    check_words(app, arguments);
    try {
        app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // CLI11 takes words from the end
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) return information(app, error);
        throw Error(usage_problem(app, error), kBadInput);
    }
    return result;
}

void print(const Result& result, std::ostream& out) {
    out << result.text << std::flush;
    if (!out) throw Error("the result cannot be written to standard output", kRunFailed);
    if (!result.failure.empty()) throw Error(result.failure, kRunFailed);
}

/// Says what went wrong, as the last line of the log.
int fail(const std::string& message, int exit_code) {
    log::error(message);
    return exit_code;
}

/// What no code of ours refused: memory that cannot be had, and what LibTorch says.
int fail(const std::exception& error) {
    const std::string message = error.what();
    const bool is_memory =
        message.find("allocate memory") != std::string::npos || dynamic_cast<const std::bad_alloc*>(&error);
    return fail(is_memory ? "not enough memory; fewer images at once need less (train: dataset.limit, "
                            "train.batch_size, a smaller network; else --num, --batch)"
                          : message.substr(0, message.find('\n')),
                kRunFailed);
}

}  // namespace

int run(const std::vector<std::string>& arguments, const Streams& streams) {
    log::set_stream(streams.log);
    log::set_stderr_level(log::Level::kInfo);
    int code = kSuccess;
    try {
        print(perform(arguments), streams.out);
    } catch (const Error& error) {
        code = fail(error.what(), error.exit_code);
    } catch (const std::exception& error) {
        code = fail(error);
    }
    log::close_file();
    log::set_stream(nullptr);
    return code;
}

}  // namespace diffuse::cli
