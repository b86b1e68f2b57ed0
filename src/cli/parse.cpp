#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>

#include "cli/command.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse::cli {
namespace {

/// A number where the whole text is one, else the text, which the field will refuse. Decimal: 010 is ten.
nlohmann::json number_or_text(const std::string& text) {
    const char *begin = text.data(), *end = begin + text.size();
    int64_t whole = 0;
    const auto [after_whole, whole_problem] = std::from_chars(begin, end, whole);
    if (whole_problem == std::errc() && after_whole == end) return whole;
    double number = 0;
    const auto [after, problem] = std::from_chars(begin, end, number);
    const bool is_number = whole_problem != std::errc::result_out_of_range && problem == std::errc() && after == end;
    return is_number && !std::isnan(number) ? nlohmann::json(number_json(number)) : nlohmann::json(text);
}

/// "1,2,3"
nlohmann::json numbers(const std::string& name, const std::string& list) {
    nlohmann::json all = nlohmann::json::array();
    for (const auto& item : split_list(name, list)) all.push_back(number_or_text(item));
    return all;
}

/// What an option's words mean, for its field to judge.
struct Meaning {
    const Field& field;
    const std::string& name;
    const std::vector<std::string>& words;

    nlohmann::json operator()(std::string*) const { return words.front(); }
    nlohmann::json operator()(std::optional<std::string>*) const { return words.front(); }
    nlohmann::json operator()(const Words&) const { return words; }
    nlohmann::json operator()(const Choice& choice) const {
        const bool known = std::ranges::find(choice.known, words.front()) != choice.known.end();
        if (!known) throw Error(unknown_name(spaced(field.key), words.front(), choice.known));
        return words.front();
    }
    nlohmann::json operator()(const Interval&) const { return numbers(name, words.front()); }
    nlohmann::json operator()(const Reals&) const { return numbers(name, words.front()); }
    template <class T>
    nlohmann::json operator()(const Number<T>&) const {
        return number_or_text(words.front());
    }
    nlohmann::json operator()(std::optional<bool>*) const {
        const std::string& word = words.front();
        return word == "true" || word == "false" ? nlohmann::json(word == "true") : nlohmann::json(word);
    }
    template <class T>
    nlohmann::json operator()(const T&) const {
        throw std::logic_error("no option of this kind: " + name);
    }
    static std::string spaced(std::string key) {
        std::ranges::replace(key, '_', ' ');
        return key;
    }
};

void check_path(const Option& option, const std::string& name, const std::string& path) {
    if (path.empty()) throw Error(fmt::format("{} is empty; name a file or a folder, or leave it out", name));
    const auto& endings = option.endings;
    if (endings.empty() || is_special(path)) return;
    if (std::ranges::find(endings, std::filesystem::path(path).filename().string()) != endings.end()) {
        throw Error(fmt::format("{}: '{}' is an ending without a name", name, path));
    }
    if (std::ranges::find(endings, file_ending(path)) != endings.end()) return;
    throw Error(
        fmt::format("{}: '{}' does not end in {}, which is what is written", name, path, fmt::join(endings, " or ")));
}

/// Refuses a list where a single value is taken, of which an interval has two numbers.
void check_single(const Option& option, const std::string& name, const std::string& word) {
    const bool is_interval = std::holds_alternative<Interval>(option.field.value);
    if (std::ranges::count(word, ',') <= (is_interval ? 1 : 0)) return;
    throw Error(
        fmt::format("{} takes one value; for several, a row for each: --vary {}={}", name, option.field.key, word));
}

/// An option as CLI11 knows it: each of its names, and the words that it was given.
struct Slot {
    const Option& option;
    std::vector<CLI::Option*> parsed;
    std::string word;
    std::vector<std::string> words;

    std::string name() const { return option.positional ? option.value : option.names().back(); }

    void add_to(CLI::App& app) {
        if (option.is_flag()) {
            for (const auto& flag : option.names()) parsed.push_back(app.add_flag(flag)->disable_flag_override());
            return;
        }
        const std::string label = option.positional ? option.field.key : option.names().front();
        parsed = {option.repeats() ? app.add_option(label, words) : app.add_option(label, word)};
        if (!option.alone.empty()) parsed.front()->expected(0, 1);
        if (option.required) parsed.front()->required();
    }
    size_t count() const {
        size_t sum = 0;
        for (const auto* each : parsed) sum += each->count();
        return sum;
    }
    nlohmann::json flag() const {
        if (count() > 1) throw Error(fmt::format("{} is given twice; once is enough", option.names().front()));
        return parsed.front()->count() > 0;
    }
    nlohmann::json json() {
        if (option.is_flag()) return flag();
        if (!option.repeats()) words = {word.empty() && !option.alone.empty() ? option.alone : word};
        if (option.varies) check_single(option, name(), word);
        if (option.takes_path()) {
            for (const auto& path : words) check_path(option, name(), path);
        }
        return json_of_words(option.field, name(), words);
    }
};

/// What CLI11 could make nothing of.
std::string unexpected(const Command& command, const std::vector<std::string>& extras) {
    const auto option = std::ranges::find_if(extras, [](const auto& word) { return word.starts_with('-'); });
    if (option == extras.end()) return fmt::format("unexpected argument '{}'", extras.front());
    std::vector<std::string> known;
    for (const auto& own : command.options) {
        for (const auto& name : own.names()) known.push_back(name);
    }
    return unknown_option(*option, known);
}

/// How several values are said of an option that takes one; empty where they cannot be.
std::string how_to_vary(const Command& command, const std::string& name) {
    const auto option = std::ranges::find_if(
        command.options, [&](const Option& each) { return each.varies && std::ranges::count(each.names(), name) > 0; });
    if (option == command.options.end()) return "";
    return fmt::format("; for several values, a row for each: --vary {}=A,B", option->field.key);
}

/// Some words of CLI11 are of its own kind.
std::string in_plain_words(const Command& command, const std::string& problem) {
    const std::string twice = ": At Most 1 required but received ", value = " was given a disallowed flag override";
    if (const size_t end = problem.find(twice); end != std::string::npos) {
        const std::string name = problem.substr(0, end);
        return name + " is given more than once" + how_to_vary(command, name);
    }
    if (problem.ends_with(value)) return fmt::format("--{} takes no value", problem.substr(0, problem.find(value)));
    return problem;
}

/// Refuses values that are empty. CLI11 would take the word behind "--out=" for one.
void check_words(const std::vector<std::string>& words) {
    for (size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        if (!word.starts_with("--")) continue;
        const bool ends = word.find('=') + 1 == word.size(),
                   before_nothing = i + 1 < words.size() && words[i + 1].empty();
        if (!ends && !before_nothing) continue;
        throw Error(fmt::format("{} is empty; give it a value, or leave it out", word.substr(0, word.find('='))));
    }
}

void add_excludes(std::vector<Slot>& slots) {
    for (auto& slot : slots) {
        for (const auto& key : slot.option.excludes) {
            const auto other = std::ranges::find(slots, key, [](const Slot& each) { return each.option.field.key; });
            for (auto* mine : slot.parsed) {
                for (auto* theirs : other->parsed) mine->excludes(theirs);
            }
        }
    }
}

/// Gives the fields what was said of them, each under its option's name.
Given take(std::vector<Slot>& slots) {
    Given given;
    Fields fields;
    nlohmann::json said = nlohmann::json::object();
    for (auto& slot : slots) {
        Field field = slot.option.field;
        const std::string key = field.key;
        field.key = slot.option.positional ? slot.option.value : option_name(key);
        field.belongs = {};  // what is chosen may yet come from a checkpoint
        if (slot.count() > 0) {
            given.insert(key);
            said[field.key] = slot.json();
        }
        fields.push_back(std::move(field));
    }
    read(fields, said, /*what=*/"");
    return given;
}

}  // namespace

std::vector<std::string> split_list(const std::string& name, const std::string& list) {
    std::vector<std::string> items;
    for (size_t begin = 0; begin <= list.size();) {
        const size_t comma = std::min(list.find(',', begin), list.size());
        if (comma == begin) throw Error(fmt::format("{}: '{}' has an empty item", name, list));
        items.push_back(list.substr(begin, comma - begin));
        begin = comma + 1;
    }
    return items;
}

nlohmann::json json_of_words(const Field& field, const std::string& name, const std::vector<std::string>& words) {
    return std::visit(Meaning{field, name, words}, field.value);
}

Given parse_words(const Command& command, const std::vector<std::string>& words) {
    check_words(words);
    CLI::App app(command.about, command.name);
    app.set_help_flag();
    app.allow_extras();
    std::vector<Slot> slots;
    slots.reserve(command.options.size());
    for (const auto& option : command.options) slots.push_back({option, {}, "", {}}), slots.back().add_to(app);
    add_excludes(slots);
    const std::string advice = fmt::format(" (see diffuse {} --help)", command.name);
    try {
        app.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // CLI11 takes words from the end
    } catch (const CLI::ParseError& error) {
        const auto extras = app.remaining();
        throw Error((extras.empty() ? in_plain_words(command, error.what()) : unexpected(command, extras)) + advice);
    }
    if (const auto extras = app.remaining(); !extras.empty()) throw Error(unexpected(command, extras) + advice);
    return take(slots);
}

}  // namespace diffuse::cli
