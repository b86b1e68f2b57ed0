#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "diffuse/base/fields.hpp"

/// A command is data: its options are fields, from which the parser, help, the manual page and completion are made, so
/// that none of them can say anything else.
namespace diffuse::cli {

/// The groups in which help shows the options of a command; each has one more, before them, for what it works on.
inline constexpr const char *kHow = "How", *kWritten = "What is written", *kMachine = "The machine", *kHelp = "Help";

/// An option of a command: a field, and what only the command line knows of it.
struct Option {
    Field field;  ///< key "max_ratio": --max-ratio
    std::string group = "";
    std::string value = "";  ///< what help calls its value; empty: as the field's type has it
    bool required = false;
    bool positional = false;                 ///< a word without a name before it
    std::string alone = "";                  ///< what it means without a value; empty: it needs one
    std::vector<std::string> endings = {};   ///< one of which a file's name must have, so that it tells what is in it
    std::vector<std::string> excludes = {};  ///< keys of options that cannot stand beside it
    std::vector<std::string> instead = {};   ///< keys of the config whose place it takes: "sample.steps"
    bool varies = false;                     ///< --vary takes several values of it

    /// "--clip-x0", "--no-clip-x0"; none of a positional one.
    std::vector<std::string> names() const;
    /// "N", "FILE"; empty for a flag.
    std::string value_name() const;
    /// The names that it takes, where it takes some.
    std::vector<std::string> known() const;
    bool is_flag() const;
    bool takes_path() const;
    bool takes_list() const;  ///< numbers with commas between them
    bool repeats() const;
    /// "1 to 64"; empty where all of its type are taken.
    std::string range() const;
    std::string default_value() const;
    /// "number of images (1 to 1000000; default 64)"
    std::string whole_meaning() const;
    /// "--num N", "PATH"
    std::string synopsis() const;
};

/// What a command has to say on stdout.
struct Result {
    std::string text;
    std::string failure = {};  ///< what went wrong all the same, to be said after the text (exit code 1)
};

/// The keys of the options that a command line has.
using Given = std::set<std::string>;

struct Command {
    std::string name, about;
    std::vector<std::string> examples;
    std::vector<Option> options = {};  ///< in the order in which a person needs them
    std::function<Result(const Given& given)> run = {};
    bool calculates = true;  ///< needs LibTorch

    /// Whether it takes keys of the config, which its help then lists.
    bool has_keys() const;
    /// "diffuse sample --checkpoint RUN [OPTION]..."
    std::string usage() const;
};

/// A command whose options say what stands in an O, which begins as `start`: `options` describes them, `run` does it.
template <class O>
Command command_of(Command about, O start, std::vector<Option> (*options)(O& said),
                   Result (*run)(const O& said, const Given& given)) {
    const auto said = std::make_shared<O>(std::move(start));
    about.options = options(*said);
    about.run = [said, run](const Given& given) { return run(*said, given); };
    return about;
}

/// The commands, in the order of the help. `line`: as the user typed it, for the files that say how they were made.
std::vector<Command> commands(const std::string& line);
std::vector<std::string> names_of(const std::vector<Command>& commands);
/// What the program itself takes.
std::vector<Option> program_options();

/// "unknown option '--stpes'; did you mean '--steps'?"
std::string unknown_option(const std::string& word, const std::vector<std::string>& known);

/// "--max-ratio" of the key "max_ratio"
std::string option_name(std::string key);

/// Options of one group, and a list of such groups as one.
std::vector<Option> grouped(const char* group, std::vector<Option> options);
std::vector<Option> joined(std::initializer_list<std::vector<Option>> groups);
/// Fields as options of a group.
std::vector<Option> options_of(const Fields& fields, const char* group);
/// An option for a file, whose name must have one of `endings`, if any.
Option file_option(const Field& field, const std::vector<std::string>& endings = {});

/// Gives a command's fields the values of a command line's words, behind the command's name. Throws Error, in one line,
/// for what is unknown, missing, twice, contradictory or out of range.
Given parse_words(const Command& command, const std::vector<std::string>& words);

/// The words of an option called `name` as JSON, for its field to judge. Throws Error for an unknown name.
nlohmann::json json_of_words(const Field& field, const std::string& name, const std::vector<std::string>& words);
/// "a,b" as its items. Throws Error, beginning with `name`, for an empty one.
std::vector<std::string> split_list(const std::string& name, const std::string& list);

/// A key of the config, as help lists it.
struct KeyManual {
    std::string key, default_value, meaning, expected;
    std::vector<std::string> known;  ///< the names that it takes
};
std::vector<KeyManual> config_keys();

/// What the program is, for help and manual.
inline constexpr const char *kAbout = "train, sample, invert and measure small diffusion models",
                            *kUsage = "diffuse COMMAND [OPTION]...";
inline const std::vector<std::string> kExamples = {"diffuse train --config configs/demo.json",
                                                   "diffuse sample --checkpoint runs/demo --out digits.png"};

/// The program's help, or a command's, at most 80 columns wide.
std::string program_help();
std::string command_help(const Command& command);
/// The manual page diffuse(1), in the language of man(7).
std::string manual_page();
/// A script that completes commands, options, names and keys in "bash", "zsh" or "fish".
std::string completion_script(const std::string& shell);
std::vector<std::string> shell_names();

}  // namespace diffuse::cli
