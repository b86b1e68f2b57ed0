#include "cli/command.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "diffuse/base/json.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/run/config.hpp"

namespace diffuse::cli {
namespace {

/// "1 to 64", "0 or more"
template <class T>
std::string range_words(T low, T high) {
    const bool bounded = high < std::numeric_limits<T>::max();
    return bounded ? fmt::format("{} to {}", low, high) : fmt::format("{} or more", low);
}

constexpr const char* kKeyValue = "KEY=VALUE";

}  // namespace

std::vector<std::string> names_of(const std::vector<Command>& commands) {
    std::vector<std::string> names;
    for (const auto& command : commands) names.push_back(command.name);
    return names;
}

std::string unknown_option(const std::string& word, const std::vector<std::string>& known) {
    const auto nearest = nearest_name(word, known);
    return fmt::format("unknown option '{}'{}", word, nearest ? fmt::format("; did you mean '{}'?", *nearest) : "");
}

std::string option_name(std::string key) {
    std::ranges::replace(key, '_', '-');
    return "--" + key;
}

std::vector<std::string> Option::names() const {
    if (positional) return {};
    const std::string name = option_name(field.key);
    if (field.key == "help") return {"-h", name};
    if (std::holds_alternative<std::optional<bool>*>(field.value)) return {name, "--no-" + name.substr(2)};
    return {name};
}

bool Option::is_flag() const {
    return std::holds_alternative<bool*>(field.value) || std::holds_alternative<std::optional<bool>*>(field.value);
}

std::string Option::value_name() const {
    if (is_flag() || !value.empty()) return value;
    const auto by_type = Overloaded{[](const Choice&) { return "NAME"; }, [](const Interval&) { return "LO,HI"; },
                                    [](const auto& other) {
                                        if constexpr (!requires { other.low; })
                                            return "TEXT";
                                        else
                                            return std::is_same_v<decltype(other.low), double> ? "X" : "N";
                                    }};
    return std::visit(by_type, field.value);
}

std::vector<std::string> Option::known() const {
    const auto* choice = std::get_if<Choice>(&field.value);
    return choice ? choice->known : std::vector<std::string>();
}

bool Option::takes_path() const {
    static const std::set<std::string> paths = {"FILE", "DIR", "RUN", "PATH", "INPUT"};
    return paths.contains(value);
}

bool Option::takes_list() const { return std::holds_alternative<Reals>(field.value); }

bool Option::repeats() const { return std::holds_alternative<Words>(field.value); }

std::string Option::range() const {
    const auto by_type = Overloaded{[](const Interval&) { return std::string(); },
                                    [](const auto& other) {
                                        if constexpr (!requires { other.low; })
                                            return std::string();
                                        else
                                            return range_words(other.low, other.high);
                                    }};
    return std::visit(by_type, field.value);
}

std::string Option::default_value() const {
    if (!field.by_default.empty()) return field.by_default;
    const auto json = value_of(field);
    const bool is_none = json.is_null() || json.is_boolean() || (json.is_array() && json.empty());
    if (is_none || !alone.empty() || required) return "";
    if (json.is_number_float()) return fmt::format("{:g}", json.get<double>());
    return json.is_string() ? json.get<std::string>() : to_text(json);
}

std::string Option::whole_meaning() const {
    std::vector<std::string> details;
    if (required && !positional) details.emplace_back("required");
    if (const auto names = known(); !names.empty()) details.push_back(fmt::format("{}", fmt::join(names, ", ")));
    if (!field.belongs.choice.empty()) {
        details.push_back(fmt::format("only of {} {}", field.belongs.choice, fmt::join(field.belongs.names, ", ")));
    }
    if (const auto words = range(); !words.empty()) details.push_back(words);
    if (const auto words = default_value(); !words.empty()) details.push_back("default " + words);
    if (repeats()) details.emplace_back("may be repeated");
    return details.empty() ? field.meaning : fmt::format("{} ({})", field.meaning, fmt::join(details, "; "));
}

std::string Option::synopsis() const {
    if (positional) return value_name();
    const std::string all = fmt::format("{}", fmt::join(names(), ", "));
    return is_flag() ? all : all + " " + value_name() + (takes_list() ? ",..." : "");
}

bool Command::has_keys() const {
    return std::ranges::any_of(options, [](const Option& option) { return option.value == kKeyValue; });
}

std::string Command::usage() const {
    std::string text = "diffuse " + name;
    for (const auto& option : options) {
        if (option.positional)
            text += option.required ? " " + option.value : fmt::format(" [{}]", option.value);
        else if (option.required)
            text += " " + option.synopsis();
    }
    return text + " [OPTION]...";
}

std::vector<Option> grouped(const char* group, std::vector<Option> options) {
    for (auto& option : options) option.group = group;
    return options;
}

std::vector<Option> joined(std::initializer_list<std::vector<Option>> groups) {
    std::vector<Option> all;
    for (const auto& group : groups) all.insert(all.end(), group.begin(), group.end());
    return all;
}

std::vector<Option> options_of(const Fields& fields, const char* group) {
    std::vector<Option> options;
    for (const auto& field : fields) options.push_back({.field = field});
    return grouped(group, options);
}

Option file_option(const Field& field, const std::vector<std::string>& endings) {
    return {.field = field, .value = "FILE", .endings = endings};
}

std::vector<KeyManual> config_keys() {
    Config defaults;
    std::vector<KeyManual> keys;
    for (const auto& key : leaves(fields(defaults))) {
        const auto* choice = std::get_if<Choice>(&key.value);
        keys.push_back({key.key, to_text(value_of(key)), key.meaning, expected(key),
                        choice ? choice->known : std::vector<std::string>()});
    }
    return keys;
}

}  // namespace diffuse::cli
