#include "cli/manual.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "cli/options.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/run/config.hpp"

namespace diffuse::cli {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
    return parts;
}

/// CLI11 gives the type and what the checks say of themselves as one text: "N:1 to 64", "NAME:ddpm|ddim".
void take_type(OptionManual& manual, const CLI::Option& option) {
    const auto parts = split(option.get_type_name(), ':');
    manual.value = parts.empty() ? "" : parts[0];
    for (size_t i = 1; i < parts.size(); ++i) {
        if (parts[i].find(' ') != std::string::npos)
            manual.range = parts[i];
        else
            manual.known = split(parts[i], '|');
    }
}

OptionManual manual_of(const CLI::Option& option) {
    OptionManual manual{.meaning = option.get_description(),
                        .default_value = option.get_default_str(),
                        .group = option.get_group(),
                        .required = option.get_required()};
    for (const auto& name : option.get_snames()) manual.names.push_back("-" + name);
    for (const auto& name : option.get_lnames()) manual.names.push_back("--" + name);
    const bool is_flag = option.get_expected_max() == 0 || option.get_type_size_max() == 0;
    if (!is_flag) take_type(manual, option);
    // A default of an option that may stand alone is what it then says, not what holds without it.
    const bool may_stand_alone = option.get_expected_min() == 0;
    if ((may_stand_alone && !is_flag) || manual.default_value == "[]" || manual.default_value == "false") {
        manual.default_value.clear();
    }
    const bool informs =
        !manual.names.empty() && (manual.names.back() == "--help" || manual.names.back() == "--version");
    if (informs) manual.group = "Help";
    manual.takes_list = option.get_delimiter() != '\0';
    manual.repeats = !is_flag && !manual.takes_list && option.get_items_expected_max() > 1;
    return manual;
}

/// Where a group stands: what a command works on first, the machine last.
size_t rank(const OptionManual& option) {
    const std::vector<std::string> later = {kHow, kWritten, kMachine, "Help"};
    const auto found = std::find(later.begin(), later.end(), option.group);
    return found == later.end() ? 0 : size_t(1 + found - later.begin());
}

}  // namespace

bool OptionManual::takes_path() const {
    static const std::set<std::string> paths = {"FILE", "DIR", "RUN", "PATH", "INPUT"};
    return paths.contains(value);
}

bool CommandManual::has_positional() const {
    return std::any_of(options.begin(), options.end(), [](const OptionManual& option) { return option.names.empty(); });
}

CommandManual manual_of(const CLI::App& command) {
    const bool is_program = command.get_parent() == nullptr;
    CommandManual manual{.name = is_program ? "" : command.get_name(), .about = command.get_description()};
    for (const auto* option : command.get_options()) manual.options.push_back(manual_of(*option));
    std::stable_sort(manual.options.begin(), manual.options.end(),
                     [](const auto& a, const auto& b) { return rank(a) < rank(b); });
    manual.examples = split(command.get_footer(), '\n');
    manual.has_keys = std::any_of(manual.options.begin(), manual.options.end(),
                                  [](const OptionManual& option) { return option.value == "KEY=VALUE"; });
    return manual;
}

std::vector<CommandManual> manuals_of(const CLI::App& program) {
    std::vector<CommandManual> manuals;
    for (const auto* command : program.get_subcommands({})) manuals.push_back(manual_of(*command));
    return manuals;
}

std::vector<KeyManual> config_keys() {
    Config defaults;
    const Fields keys = leaves(fields(defaults));
    const auto values = to_json(keys);
    std::vector<KeyManual> manuals;
    for (const auto& key : keys) {
        const auto* choice = std::get_if<Choice>(&key.value);
        manuals.push_back({key.key, to_text(values[key.key]), key.meaning, expected(key),
                           choice ? choice->known : std::vector<std::string>()});
    }
    return manuals;
}

std::string whole_meaning(const OptionManual& option) {
    std::vector<std::string> details;
    if (option.required && !option.names.empty()) details.push_back("required");
    if (!option.known.empty()) details.push_back(fmt::format("{}", fmt::join(option.known, ", ")));
    if (!option.range.empty()) details.push_back(option.range);
    if (!option.default_value.empty()) details.push_back("default " + option.default_value);
    if (option.repeats) details.push_back("may be repeated");
    return details.empty() ? option.meaning : fmt::format("{} ({})", option.meaning, fmt::join(details, "; "));
}

std::string synopsis(const OptionManual& option) {
    if (option.names.empty()) return option.value;
    const std::string names = fmt::format("{}", fmt::join(option.names, ", "));
    return option.value.empty() ? names : names + " " + option.value + (option.takes_list ? ",..." : "");
}

std::string usage(const CommandManual& command) {
    if (command.name.empty()) return "diffuse COMMAND [OPTION]...";
    std::string text = "diffuse " + command.name;
    for (const auto& option : command.options) {
        if (option.names.empty())
            text += option.required ? " " + option.value : fmt::format(" [{}]", option.value);
        else if (option.required)
            text += " " + synopsis(option);
    }
    return text + " [OPTION]...";
}

}  // namespace diffuse::cli
