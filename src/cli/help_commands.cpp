#include <memory>

#include "cli/common.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kShown = "What is shown";

struct HelpCommand {
    std::string command;
    bool man = false;
};

Result show_help(const HelpCommand& options) {
    if (options.man) return {manual_page()};
    if (options.command.empty()) return {program_help()};
    for (const auto& command : commands("")) {
        if (command.name == options.command) return {command_help(command)};
    }
    throw std::logic_error("no command " + options.command);
}

}  // namespace

Command help_command(const std::vector<std::string>& names) {
    const auto options = std::make_shared<HelpCommand>();
    return {.name = "help",
            .about = "show the help of a command, or the whole manual",
            .examples = {"diffuse help sample", "diffuse help --man >diffuse.1"},
            .options = {{.field = {"command", Choice{&options->command, names}, "command; none: the program itself"},
                         .group = kShown,
                         .value = "COMMAND",
                         .positional = true},
                        {.field = {"man", &options->man, "print the manual page diffuse(1), for man -l, instead"},
                         .group = kShown,
                         .excludes = {"command"}}},
            .run = [options](const Given&) { return show_help(*options); }};
}

Command completion_command() {
    const auto shell = std::make_shared<std::string>();
    return {.name = "completion",
            .about = "print a script with which a shell completes command lines",
            .examples = {"diffuse completion bash >diffuse.bash && source ./diffuse.bash",
                         "diffuse completion fish >diffuse.fish"},
            .options = {{.field = {"shell", Choice{shell.get(), shell_names()}, "shell"},
                         .group = kShown,
                         .value = "SHELL",
                         .required = true,
                         .positional = true}},
            .run = [shell](const Given&) { return Result{completion_script(*shell)}; }};
}

}  // namespace diffuse::cli
