#include <fmt/format.h>

#include "cli/common.hpp"
#include "cli/manual.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kShown = "What is shown";

struct HelpOptions {
    std::string command;
    bool man = false;
};

Result show_help(CLI::App& program, const HelpOptions& options) {
    if (options.man) return {manual_page(program)};
    const CLI::App* about = options.command.empty() ? &program : program.get_subcommand(options.command);
    return {HelpFormatter().make_help(about, "", CLI::AppFormatMode::Normal)};
}

std::vector<std::string> command_names(const CLI::App& program) {
    std::vector<std::string> names;
    for (const auto* command : program.get_subcommands({})) names.push_back(command->get_name());
    return names;
}

}  // namespace

void add_help(CLI::App& app, Result& result) {
    auto options = std::make_shared<HelpOptions>();
    auto names = command_names(app);
    names.insert(names.end(), {"help", "completion"});
    auto* command = app.add_subcommand("help", "show the help of a command, or the whole manual");
    auto* name = command->add_option("command", options->command, "command; none: the program itself")
                     ->check(known_name("command", names))
                     ->type_name("COMMAND")
                     ->group(kShown);
    command->add_flag("--man", options->man, "print the manual page diffuse(1), for man -l, instead")
        ->group(kShown)
        ->excludes(name);
    command->footer("diffuse help sample\ndiffuse help --man >diffuse.1");
    command->callback([options, &app, &result] { result = show_help(app, *options); });
}

void add_completion(CLI::App& app, Result& result) {
    auto shell = std::make_shared<std::string>();
    auto* command = app.add_subcommand("completion", "print a script with which a shell completes command lines");
    command->add_option("shell", *shell, "shell")
        ->required()
        ->check(known_name("shell", shell_names()))
        ->type_name("SHELL")
        ->group(kShown);
    command->footer(
        "diffuse completion bash >diffuse.bash && source ./diffuse.bash\n"
        "diffuse completion fish >diffuse.fish");
    command->callback([shell, &app, &result] { result = {completion_script(app, *shell)}; });
}

}  // namespace diffuse::cli
