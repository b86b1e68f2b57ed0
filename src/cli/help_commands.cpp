#include <algorithm>

#include "cli/common.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kShown = "What is shown";

struct HelpCommand {
    std::string command = "";
    bool man = false;
    std::vector<std::string> names;  ///< of the other commands
};

Result show_help(const HelpCommand& options, const Given&) {
    if (options.man) return {manual_page()};
    if (options.command.empty()) return {program_help()};
    const auto all = commands("");
    return {command_help(*std::ranges::find(all, options.command, &Command::name))};
}

std::vector<Option> options_of_help(HelpCommand& o) {
    return grouped(kShown, {{.field = {"command", Choice{&o.command, o.names}, "command; none: the program itself"},
                             .value = "COMMAND",
                             .positional = true},
                            {.field = {"man", &o.man, "print the manual page diffuse(1), for man -l, instead"},
                             .excludes = {"command"}}});
}

std::vector<Option> options_of_completion(std::string& shell) {
    return grouped(kShown, {{.field = {"shell", Choice{&shell, shell_names()}, "shell"},
                             .value = "SHELL",
                             .required = true,
                             .positional = true}});
}

}  // namespace

Command help_command(const std::vector<std::string>& names) {
    return command_of({.name = "help",
                       .about = "show the help of a command, or the whole manual",
                       .examples = {"diffuse help sample", "diffuse help --man >diffuse.1"},
                       .calculates = false},
                      HelpCommand{.names = names}, options_of_help, show_help);
}

Command completion_command() {
    return command_of<std::string>({.name = "completion",
                                    .about = "print a script with which a shell completes command lines",
                                    .examples = {"diffuse completion bash >diffuse.bash && source ./diffuse.bash",
                                                 "diffuse completion fish >diffuse.fish"},
                                    .calculates = false},
                                   "", options_of_completion, [](const std::string& shell, const Given&) {
                                       return Result{completion_script(shell)};
                                   });
}

}  // namespace diffuse::cli
