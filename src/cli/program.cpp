#include "cli/program.hpp"

#include <fmt/format.h>
#include <torch/version.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <regex>

#include "cli/common.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/processes.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse::cli {
namespace {

/// "diffuse sample --out 'two words.png'": a command line as a shell reads it again.
std::string shell_line(const std::vector<std::string>& arguments) {
    std::string line = "diffuse";
    for (const auto& argument : arguments) line += " " + shell_word(argument);
    return line;
}

/// Where an option's group stands: what a command works on first, the machine and help last.
ptrdiff_t rank_of(const Option& option) {
    static const std::vector<std::string> later = {kHow, kWritten, kMachine, kHelp};
    const auto found = std::ranges::find(later, option.group);
    return found == later.end() ? 0 : 1 + (found - later.begin());
}

bool asks_for_help(const std::string& word) { return word == "-h" || word == "--help"; }

Option help_option() {
    static bool asked = false;  // is looked for before all else
    return {.field = {"help", &asked, "print help"}, .group = kHelp};
}

/// Options stand before no command.
std::string without_command(const std::vector<std::string>& arguments) {
    if (arguments.empty()) throw Error("a command is required (see diffuse --help)");
    const std::string& first = arguments.front();
    if (asks_for_help(first)) return program_help();
    if (first == "--version") return "diffuse " DIFFUSE_VERSION " (LibTorch " TORCH_VERSION ")\n";
    const auto names = names_of(commands(""));
    if (!first.starts_with('-')) throw Error(unknown_name("command", first, names) + " (see diffuse --help)");
    for (const auto& word : arguments) {
        if (std::ranges::find(names, word) == names.end()) continue;
        throw Error(fmt::format("options come after the command: {} (see diffuse {} --help)", first, word));
    }
    throw Error(unknown_option(first, {"--help", "--version"}) + " (see diffuse --help)");
}

/// A message of the library as the command line has it: "sample.steps" is --steps where the command has that option.
/// What is said of a config, or of what --set takes, stays.
std::string in_options(const std::string& message, const Command& command) {
    static const std::regex key(R"((--set )?[a-z]+\.[a-z0-9_]+)");
    if (message.starts_with("config: ")) return message;
    std::string result;
    auto rest = message.begin();
    for (std::sregex_iterator found(rest, message.end(), key), end; found != end; ++found) {
        const auto stands_for = [&](const Option& option) {
            return std::ranges::find(option.instead, found->str()) != option.instead.end();
        };
        const auto option = std::ranges::find_if(command.options, stands_for);
        const auto [begin, behind] = std::pair((*found)[0].first, (*found)[0].second);
        result.append(rest, begin);
        result += option == command.options.end() ? found->str() : option->names().front();
        rest = behind;
    }
    return result.append(rest, message.end());
}

/// What a command line asks for.
struct Job {
    bool calculates;
    std::function<Result()> run;
};

Job text_job(const std::string& text) {
    return {false, [text] { return Result{text}; }};
}

/// Throws Error for a line that is wrong.
Job understood(const std::vector<std::string>& arguments) {
    const auto all = commands(shell_line(arguments));
    const auto command = std::ranges::find(all, arguments.empty() ? "" : arguments.front(), &Command::name);
    if (command == all.end()) return text_job(without_command(arguments));
    const std::vector<std::string> words(arguments.begin() + 1, arguments.end());
    if (std::ranges::any_of(words, asks_for_help)) return text_job(command_help(*command));
    const Given given = parse_words(*command, words);
    return {command->calculates, [given, command = *command] {
                try {
                    return command.run(given);
                } catch (const Error& error) {
                    throw Error(in_options(error.what(), command), error.exit_code);
                }
            }};
}

/// A reader that has seen enough and went away, as head does, is no failure.
void print(const Result& result, std::ostream& out) {
    if (!processes::is_first()) return;
    errno = 0;
    out << result.text << std::flush;
    if (!out && errno != EPIPE) throw Error("the result cannot be written to standard output", kRunFailed);
    if (!result.failure.empty()) throw Error(result.failure, kRunFailed);
}

/// Says what went wrong, as the last line of the log.
int fail(const std::string& message, int exit_code) {
    log::error(message);
    return exit_code;
}

/// What no code of ours refused: memory that cannot be had, and what LibTorch says.
Error unforeseen(const std::exception& error) {
    const std::string message = error.what();
    const bool is_memory =
        message.find("allocate memory") != std::string::npos || dynamic_cast<const std::bad_alloc*>(&error);
    return Error(is_memory ? "not enough memory; fewer images at once need less (train: dataset.limit, "
                             "train.batch_size, a smaller network; else --num, --batch)"
                           : message.substr(0, message.find('\n')),
                 kRunFailed);
}

/// The exit code; none for a calculation that was not asked for.
std::optional<int> performed(const std::vector<std::string>& arguments, const Streams& streams,
                             bool also_calculations) {
    log::set_stream(streams.log);
    log::set_stderr_level(log::Level::kInfo);
    log::set_silent(!processes::is_first());
    int code = kSuccess;
    try {
        const Job job = understood(arguments);
        if (job.calculates && !also_calculations) return {};
        if (job.calculates) processes::join();
        const Result result = job.run();
        processes::leave();
        print(result, streams.out);
    } catch (const Error& error) {
        processes::leave(error);
        code = fail(error.what(), error.exit_code);
    } catch (const std::exception& error) {
        const Error told = unforeseen(error);
        processes::leave(told);
        code = fail(told.what(), told.exit_code);
    }
    log::close_file();
    log::set_stream(nullptr);
    return code;
}

}  // namespace

std::vector<Option> program_options() {
    static bool asked = false;
    return {help_option(), {.field = {"version", &asked, "print the version"}, .group = kHelp}};
}

std::vector<Command> commands(const std::string& line) {
    std::vector<Command> all = {train_command(line), sample_command(line), encode_command(line),
                                eval_command(),      info_command(),       lab_command()};
    auto names = names_of(all);
    names.insert(names.end(), {"help", "completion"});
    all.push_back(help_command(names));
    all.push_back(completion_command());
    for (auto& command : all) {
        command.options.push_back(help_option());
        std::ranges::stable_sort(command.options, {}, rank_of);
    }
    return all;
}

int run(const std::vector<std::string>& arguments, const Streams& streams) {
    return *performed(arguments, streams, /*also_calculations=*/true);
}

std::optional<int> answer(const std::vector<std::string>& arguments, const Streams& streams) {
    return performed(arguments, streams, /*also_calculations=*/false);
}

}  // namespace diffuse::cli
