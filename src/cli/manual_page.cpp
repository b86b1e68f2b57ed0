#include <fmt/format.h>

#include <algorithm>

#include "cli/command.hpp"

namespace diffuse::cli {
namespace {

/// A text as roff reads it: a backslash, a hyphen that is one, and a line that must not begin as a request.
std::string roff(const std::string& text) {
    std::string result = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
    for (const char c : text) {
        if (c == '\\')
            result += "\\e";
        else if (c == '-')
            result += "\\-";
        else
            result += c;
    }
    return result;
}

std::string paragraph(const std::string& head, const std::string& text) {
    return fmt::format(".TP\n\\fB{}\\fR\n{}\n", roff(head), roff(text));
}

std::string example_lines(const std::vector<std::string>& examples) {
    std::string text = ".nf\n";
    for (const auto& example : examples) text += roff(example) + "\n";
    return text + ".fi\n";
}

std::string command_section(const Command& command) {
    std::string text = fmt::format(".SH \"{}\"\n{}\n.PP\n{}\n", "DIFFUSE " + roff(command.name), roff(command.usage()),
                                   roff(command.about));
    std::string group;
    for (const auto& option : command.options) {
        if (option.group != group) text += fmt::format(".SS \"{}\"\n", group = option.group);
        text += paragraph(option.synopsis(), option.whole_meaning());
    }
    return text + ".SS Examples\n" + example_lines(command.examples);
}

std::string keys_section() {
    std::string text = ".SH \"KEYS OF THE CONFIG\"\nEach with its default.\n";
    for (const auto& key : config_keys()) {
        text += paragraph(fmt::format("{} = {}", key.key, key.default_value),
                          fmt::format("{} [{}]", key.meaning, key.expected));
    }
    return text;
}

constexpr const char* kEnd =
    ".SH ENVIRONMENT\n"
    ".TP\n\\fBDIFFUSE_MNIST\\fR\nfolder of MNIST's four files, where dataset.dir is empty\n"
    ".TP\n\\fBOMP_NUM_THREADS\\fR\nlargest number of threads, where \\-\\-threads is not given\n"
    ".TP\n\\fBNO_COLOR\\fR\nnot empty: no colours on a terminal\n"
    ".SH \"EXIT STATUS\"\n"
    ".TP\n\\fB0\\fR\nall was done\n"
    ".TP\n\\fB1\\fR\nthe run failed; what it had saved is whole\n"
    ".TP\n\\fB2\\fR\na wrong option, or input that cannot be used\n"
    ".TP\n\\fB128 + N\\fR\nended by signal N, as 130 by Ctrl\\-C\n";

}  // namespace

std::string manual_page() {
    std::string text = fmt::format(".TH DIFFUSE 1 \"\" \"diffuse {}\"\n.SH NAME\ndiffuse \\- {}\n.SH SYNOPSIS\n{}\n",
                                   DIFFUSE_VERSION, roff(kAbout), roff(kUsage));
    text += ".SH COMMANDS\n";
    const auto all = commands("");
    for (const auto& command : all) text += paragraph(command.name, command.about);
    text += ".SH OPTIONS\n";
    for (const auto& option : program_options()) text += paragraph(option.synopsis(), option.whole_meaning());
    for (const auto& command : all) text += command_section(command);
    return text + keys_section() + ".SH EXAMPLES\n" + example_lines(kExamples) + kEnd;
}

}  // namespace diffuse::cli
