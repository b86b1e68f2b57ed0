#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

/// What help, manual page and completion say: taken from the command line as it is defined, and from the keys of the
/// config, so that none of them can say anything else.
namespace diffuse::cli {

struct OptionManual {
    std::vector<std::string> names;  ///< "--clip-x0", "--no-clip-x0"; none for a positional argument
    std::string value;               ///< "N", "FILE", ...: what follows; empty for a flag
    std::string meaning, range, default_value, group;
    std::vector<std::string> known;  ///< the names that it takes
    bool required = false, takes_list = false, repeats = false;

    bool takes_path() const;
};

struct CommandManual {
    std::string name, about;            ///< the name is empty for the program itself
    std::vector<OptionManual> options;  ///< by group, in the order in which a person needs them
    std::vector<std::string> examples;
    bool has_keys = false;  ///< takes the keys of the config

    bool has_positional() const;
};

struct KeyManual {
    std::string key, default_value, meaning, expected;
    std::vector<std::string> known;  ///< the names that it takes
};

CommandManual manual_of(const CLI::App& command);
/// All commands, in the order of the help.
std::vector<CommandManual> manuals_of(const CLI::App& program);
std::vector<KeyManual> config_keys();

/// "number of images (1 to 1000000; default 64)"
std::string whole_meaning(const OptionManual& option);
/// "-h, --help", "--num N", "PATH"
std::string synopsis(const OptionManual& option);
/// "diffuse sample --checkpoint RUN [OPTION]..."
std::string usage(const CommandManual& command);

/// The program's help, or a command's, at most 80 columns wide.
class HelpFormatter : public CLI::FormatterBase {
public:
    std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
};

/// The manual page diffuse(1), in the language of man(7).
std::string manual_page(const CLI::App& program);

/// A script that completes commands, options, names and keys in "bash", "zsh" or "fish".
std::string completion_script(const CLI::App& program, const std::string& shell);
std::vector<std::string> shell_names();

}  // namespace diffuse::cli
