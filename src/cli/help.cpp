#include <fmt/format.h>
#include <fmt/ranges.h>

#include <sstream>

#include "cli/command.hpp"

namespace diffuse::cli {
namespace {

constexpr size_t kWidth = 80, kNameColumn = 2, kTextColumn = 26;

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

std::string entry(const std::string& name, const std::string& text) {
    return paragraph(std::string(kNameColumn, ' ') + name, text, kTextColumn);
}

std::string options_text(const std::vector<Option>& options) {
    std::string text, group;
    for (const auto& option : options) {
        if (option.group != group) text += fmt::format("\n{}:\n", group = option.group);
        text += entry(option.synopsis(), option.whole_meaning());
    }
    return text;
}

std::string keys_text() {
    std::string text = "\nKeys of the config (--set KEY=VALUE), with their defaults:\n";
    for (const auto& key : config_keys()) {
        text += fmt::format("  {} = {}\n", key.key, key.default_value) +
                paragraph("", fmt::format("{} [{}]", key.meaning, key.expected), 6);
    }
    return text;
}

std::string examples_text(const std::vector<std::string>& examples) {
    return fmt::format("\nExamples:\n  {}\n", fmt::join(examples, "\n  "));
}

}  // namespace

std::string command_help(const Command& command) {
    return paragraph("", command.about, 0) + "\nUsage: " + command.usage() + "\n" + options_text(command.options) +
           (command.has_keys() ? keys_text() : "") + examples_text(command.examples);
}

std::string program_help() {
    std::string text = fmt::format("diffuse: {}\n\nUsage: {}\n\nCommands:\n", kAbout, kUsage);
    for (const auto& command : commands("")) text += entry(command.name, command.about);
    return text + options_text(program_options()) + examples_text(kExamples);
}

}  // namespace diffuse::cli
