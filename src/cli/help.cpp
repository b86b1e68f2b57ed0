#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sstream>

#include "cli/command.hpp"

/// Help and the manual page: one walk over the commands, written as plain text or in the language of man(7).
namespace diffuse::cli {
namespace {

/// How the parts of a page are written.
struct Writer {
    std::string (*group)(const std::string& name);
    std::string (*entry)(const std::string& name, const std::string& text);
    std::string (*key)(const std::string& name, const std::string& text);
    std::string (*examples)(const std::vector<std::string>& lines);

    std::string commands_text() const {
        std::string text;
        for (const auto& command : commands("")) text += entry(command.name, command.about);
        return text;
    }
    std::string options_text(const std::vector<Option>& options) const {
        std::string text, name;
        for (const auto& option : options) {
            if (option.group != name) text += group(name = option.group);
            text += entry(option.synopsis(), option.whole_meaning());
        }
        return text;
    }
    std::string keys_text() const {
        std::string text;
        for (const auto& [name, value, meaning, expected, known] : config_keys()) {
            text += key(fmt::format("{} = {}", name, value), fmt::format("{} [{}]", meaning, expected));
        }
        return text;
    }
};

// ---- plain text

constexpr size_t kWidth = 80, kTextColumn = 26;

/// A text's words on lines that begin at a column and end before kWidth. The first line goes on after `head`, which
/// stays alone on its line when it reaches into the column.
std::string paragraph(const std::string& head, const std::string& text, size_t column) {
    const bool is_alone = !head.empty() && head.size() + 2 > column;
    std::string result = is_alone ? head + "\n" : "", line(column, ' ');
    if (!is_alone) line.replace(0, head.size(), head);
    bool is_empty = true;
    std::istringstream words(text);
    for (std::string word; words >> word;) {
        if (!is_empty && line.size() + 1 + word.size() > kWidth) {
            result += line + "\n";
            line.assign(column, ' ');
            is_empty = true;
        }
        line += (is_empty ? "" : " ") + word;
        is_empty = false;
    }
    return result + line + "\n";
}

const Writer kText = {
    .group = [](const std::string& name) { return fmt::format("\n{}:\n", name); },
    .entry = [](const std::string& name, const std::string& text) { return paragraph("  " + name, text, kTextColumn); },
    .key = [](const std::string& name, const std::string& text) { return "  " + name + "\n" + paragraph("", text, 6); },
    .examples =
        [](const std::vector<std::string>& lines) {
            return fmt::format("\nExamples:\n  {}\n", fmt::join(lines, "\n  "));
        }};

// ---- man(7)

/// A text as roff reads it: a backslash, a hyphen that is one, and a line that must not begin as a request.
std::string roff(const std::string& text) {
    std::string result = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
    for (const char c : text) result += c == '\\' ? "\\e" : c == '-' ? "\\-" : std::string(1, c);
    return result;
}

std::string tagged(const std::string& name, const std::string& text) {
    return fmt::format(".TP\n\\fB{}\\fR\n{}\n", roff(name), roff(text));
}

const Writer kRoff = {.group = [](const std::string& name) { return fmt::format(".SS \"{}\"\n", name); },
                      .entry = tagged,
                      .key = tagged,
                      .examples =
                          [](const std::vector<std::string>& lines) {
                              std::string text = ".nf\n";
                              for (const auto& line : lines) text += roff(line) + "\n";
                              return text + ".fi\n";
                          }};

std::string command_section(const Command& command) {
    return fmt::format(".SH \"DIFFUSE {}\"\n{}\n.PP\n{}\n", roff(command.name), roff(command.usage()),
                       roff(command.about)) +
           kRoff.options_text(command.options) + ".SS Examples\n" + kRoff.examples(command.examples);
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

std::string command_help(const Command& command) {
    const std::string keys = "\nKeys of the config (--set KEY=VALUE), with their defaults:\n";
    return paragraph("", command.about, 0) + "\nUsage: " + command.usage() + "\n" +
           kText.options_text(command.options) + (command.has_keys() ? keys + kText.keys_text() : "") +
           kText.examples(command.examples);
}

std::string program_help() {
    return fmt::format("diffuse: {}\n\nUsage: {}\n\nCommands:\n", kAbout, kUsage) + kText.commands_text() +
           kText.options_text(program_options()) + kText.examples(kExamples);
}

std::string manual_page() {
    std::string text = fmt::format(".TH DIFFUSE 1 \"\" \"diffuse {}\"\n.SH NAME\ndiffuse \\- {}\n.SH SYNOPSIS\n{}\n",
                                   DIFFUSE_VERSION, roff(kAbout), roff(kUsage));
    text += ".SH COMMANDS\n" + kRoff.commands_text();
    text += ".SH OPTIONS\n" + kRoff.options_text(grouped("", program_options()));
    for (const auto& command : commands("")) text += command_section(command);
    text += ".SH \"KEYS OF THE CONFIG\"\nEach with its default.\n" + kRoff.keys_text();
    return text + ".SH EXAMPLES\n" + kRoff.examples(kExamples) + kEnd;
}

}  // namespace diffuse::cli
