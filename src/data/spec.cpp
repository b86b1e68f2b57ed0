#include "diffuse/data/spec.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <sstream>

#include "diffuse/base/error.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

/// A text that is a number and nothing else.
template <class T>
std::optional<T> number_in(const std::string& text) {
    T number{};
    const char* end = text.data() + text.size();
    const auto [next, problem] = std::from_chars(text.data(), end, number);
    return !text.empty() && problem == std::errc() && next == end ? std::optional(number) : std::nullopt;
}

std::vector<std::string> parts_of(const std::string& list) {
    std::vector<std::string> parts;
    for (size_t begin = 0; begin <= list.size();) {
        const size_t end = std::min(list.find(',', begin), list.size());
        parts.push_back(list.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

std::string known_classes(const Classes& known) {
    if (known.count == 0) return "the network was trained without labels";
    if (known.names.empty()) return fmt::format("the network knows 0 to {}", known.count - 1);
    return fmt::format("the network knows {}", fmt::join(known.names, ", "));
}

/// A class by its name, or by its number where no name is a number.
int64_t class_of(const std::string& word, const Classes& known) {
    if (known.count == 0) throw Error(fmt::format("class {}: {}", word, known_classes(known)));
    const auto found = std::ranges::find(known.names, word);
    if (found != known.names.end()) return found - known.names.begin();
    const bool by_number =
        std::ranges::none_of(known.names, [](const auto& name) { return number_in<uint64_t>(name).has_value(); });
    const auto number = number_in<uint64_t>(word);
    if (!number && known.names.empty()) {
        throw Error(fmt::format("class: '{}' is not all, none, or classes like 3 or 0,1,2", word));
    }
    if (number && by_number && *number < uint64_t(known.count)) return int64_t(*number);
    throw Error(fmt::format("class {}: {}", word, known_classes(known)));
}

/// "y1=0.3": a column and its number.
std::pair<std::string, double> assignment(const std::string& text, const std::vector<std::string>& known) {
    const size_t equals = std::min(text.find('='), text.size());
    const std::string name = text.substr(0, equals);
    if (std::ranges::find(known, name) == known.end()) {
        throw Error("condition: " + unknown_name("column", name, known));
    }
    const auto value = number_in<double>(text.substr(std::min(equals + 1, text.size())));
    if (value && std::isfinite(*value)) return {name, *value};
    throw Error(fmt::format("condition: '{}' is not {}=NUMBER", text, name));
}

}  // namespace

std::vector<int64_t> ConditionSpec::cycle(const std::string& text) const {
    std::vector<int64_t> found;
    if (text == "none") return {};
    if (text == "all") {
        found.resize(size_t(classes.count));
        std::iota(found.begin(), found.end(), int64_t{0});
        return found;
    }
    for (const auto& word : parts_of(text)) found.push_back(class_of(word, classes));
    return found;
}

Condition ConditionSpec::of_classes(const std::string& text, int64_t count) const {
    const auto these = cycle(text);
    if (these.empty()) return {};
    const auto index = torch::arange(count).remainder(std::ssize(these));
    return {.classes = torch::tensor(these, torch::kInt64).index_select(0, index)};
}

Condition ConditionSpec::of_numbers(const std::string& text, int64_t count) const {
    const auto known = names(numbers);
    if (known.empty() && text.empty()) return {};
    if (known.empty())
        throw Error("condition: this network was trained without numbers as its condition; leave it out");
    std::map<std::string, double> values;
    for (const auto& part : text.empty() ? std::vector<std::string>() : parts_of(text)) {
        const auto [name, value] = assignment(part, known);
        if (!values.emplace(name, value).second) throw Error(fmt::format("condition: {} is given twice", name));
    }
    std::vector<double> row;
    for (const auto& name : known) {
        if (!values.contains(name)) {
            throw Error(
                fmt::format("the condition of this network is {}: say a number for each, condition {}=NUMBER,...; "
                            "{} is missing",
                            fmt::join(known, ", "), known.front(), name));
        }
        row.push_back(values.at(name));
    }
    const auto one = standardised(torch::tensor(row, torch::kFloat64).unsqueeze(0), numbers);
    return {.numbers = one.repeat({count, 1})};
}

Condition ConditionSpec::taken(const Condition& condition) const {
    return {classes.count > 0 ? condition.classes : torch::Tensor(),
            numbers.empty() ? torch::Tensor() : condition.numbers};
}

torch::Tensor ConditionSpec::renumbered(const torch::Tensor& labels, const Classes& theirs) const {
    std::vector<int64_t> own;
    for (int64_t label = 0; label < theirs.count; ++label) {
        int64_t number = classes.count;
        for (int64_t i = 0; i < classes.count; ++i) {
            if (theirs.name(label) == classes.name(i)) number = i;
        }
        own.push_back(number);
    }
    return torch::tensor(own, torch::kInt64).index_select(0, labels);
}

}  // namespace diffuse
