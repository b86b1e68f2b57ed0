#include "diffuse/data/spec.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "diffuse/base/error.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/base/text.hpp"
#include "diffuse/data/csv.hpp"

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

/// A list of names: "cat,dog", or with numbers: "y1=0.3,y2=-1". Names may be in double quotes, as CSV has them.
class NameList {
public:
    NameList(const std::string& text, std::string what) : text_(text), what_(std::move(what)) {}

    bool at_end() const { return at_ > text_.size(); }

    /// The name that begins here, up to one of `ends`.
    std::string name(const char* ends) { return text_.compare(at_, 1, "\"") == 0 ? quoted() : up_to(ends); }

    /// What follows up to the next comma; goes past that.
    std::string rest() {
        std::string found = up_to(",");
        ++at_;
        return found;
    }

private:
    std::string up_to(const char* ends) {
        const size_t begin = at_;
        at_ = std::min(text_.find_first_of(ends, begin), text_.size());
        return text_.substr(begin, at_ - begin);
    }

    std::string quoted() {
        std::string name;
        for (++at_; at_ < text_.size(); ++at_) {
            const bool is_doubled = text_.compare(at_, 2, "\"\"") == 0;
            if (text_[at_] == '"' && !is_doubled) return ++at_, name;
            if (is_doubled) ++at_;
            name += text_[at_];
        }
        throw Error(fmt::format("{}: the quote of \"{} is not closed", what_, name));
    }

    const std::string& text_;
    std::string what_;
    size_t at_ = 0;
};

std::string known_classes(const Classes& known) {
    if (known.count == 0) return "the network was trained without labels";
    if (known.names.empty()) return fmt::format("the network knows 0 to {}", known.count - 1);
    constexpr size_t kMostNamed = 20;
    if (known.names.size() <= kMostNamed) return fmt::format("the network knows {}", fmt::join(known.names, ", "));
    const std::vector<std::string> first(known.names.begin(), known.names.begin() + kMostNamed);
    return fmt::format("the network knows {} and {} more", fmt::join(first, ", "), known.names.size() - kMostNamed);
}

/// A class by its name, or by its number where no name is a number.
int64_t class_of(const std::string& word, const Classes& known) {
    if (known.count == 0) throw Error(fmt::format("class {}: {}", word, known_classes(known)));
    const auto found = std::ranges::find_if(known.names, [&](const auto& name) { return is_same_name(name, word); });
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
std::pair<std::string, double> assignment(NameList& list, const std::vector<std::string>& known) {
    const std::string name = list.name("=,"), rest = list.rest();
    const auto column = std::ranges::find_if(known, [&](const auto& each) { return is_same_name(each, name); });
    if (column == known.end()) {
        const auto needs_quotes = [](const std::string& each) { return each.find_first_of(",=\"") != each.npos; };
        const bool any = std::ranges::any_of(known, needs_quotes);
        throw Error("condition: " + unknown_name("column", name, known) +
                    (any ? "; write names that have a comma or = in double quotes, as in '\"height, cm\"=170'" : ""));
    }
    const auto value = number_in<double>(rest.substr(std::min<size_t>(1, rest.size())));
    if (rest.starts_with('=') && value && std::isfinite(*value)) return {*column, *value};
    throw Error(fmt::format("condition: '{}{}' is not {}=NUMBER", quoted_name(name), rest, quoted_name(name)));
}

/// Warns of a number that the training had none like, for there a network's answer means nothing.
void warn_where_unseen(double value, const Column& column) {
    constexpr double kFar = 5;  // standard deviations, where the range is not known
    const auto number = torch::full({1, 1}, value, torch::kFloat64);
    const double z = standardised(number, {column}).item<double>();
    const bool is_far = column.range ? value < column.range->first || value > column.range->second : std::abs(z) > kFar;
    if (!is_far) return;
    const std::string range =
        column.range ? fmt::format(", {:g} to {:g}", column.range->first, column.range->second) : "";
    log::warn(
        fmt::format("condition: {}={:g} is outside of what the network was trained on{}: {:.2g} standard "
                    "deviations from the mean; what it draws there is a guess",
                    quoted_name(column.name), value, range, std::abs(z)));
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
    for (NameList list(text, "class"); !list.at_end();) {
        const std::string name = list.name(",");
        found.push_back(class_of(name + list.rest(), classes));
    }
    return found;
}

int64_t ConditionSpec::class_number(const std::string& word) const { return class_of(word, classes); }

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
    for (NameList list(text, "condition"); !text.empty() && !list.at_end();) {
        const auto [name, value] = assignment(list, known);
        if (!values.emplace(name, value).second) throw Error(fmt::format("condition: {} is given twice", name));
    }
    std::vector<double> row;
    for (const auto& column : numbers) {
        const auto value = values.find(column.name);
        if (value == values.end()) {
            throw Error(
                fmt::format("the condition of this network is {}: say a number for each, condition {}=NUMBER,...; "
                            "{} is missing",
                            fmt::join(known, ", "), quoted_name(known.front()), column.name));
        }
        row.push_back(value->second);
    }
    for (size_t i = 0; i < row.size(); ++i) warn_where_unseen(row[i], numbers[i]);
    const auto one = standardised(torch::tensor(row, torch::kFloat64).unsqueeze(0), numbers);
    return {.numbers = one.repeat({count, 1})};
}

std::vector<std::string> ConditionSpec::never_trained(const Condition& condition) const {
    std::vector<std::string> found;
    if (!condition.classes.defined()) return found;
    for (int64_t i = 0; i < std::ssize(classes.examples); ++i) {
        const bool is_trained = classes.examples[size_t(i)] > 0;
        if (!is_trained && condition.classes.eq(i).any().item<bool>()) found.push_back(classes.name(i));
    }
    return found;
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
            if (is_same_name(theirs.name(label), classes.name(i))) number = i;
        }
        own.push_back(number);
    }
    return torch::tensor(own, torch::kInt64).index_select(0, labels);
}

void warn_where_uncovered(const DataSpec& data, double ratio) {
    double reach = 1;  // of images
    if (data.shape.points) reach = 0;
    for (const auto& column : data.codec.columns) {
        if (!column.range) continue;
        const auto ends = torch::tensor({{column.range->first}, {column.range->second}}, torch::kFloat64);
        reach = std::max(reach, standardised(ends, {column}).abs().max().item<double>());
    }
    if (2 * reach <= ratio) return;  // then the means of noisy data differ by less than their standard deviations
    log::warn(
        fmt::format("the data reach to {:.3g}, and noise of sigma / alpha = {:.3g}, which samples begin from, does "
                    "not hide them: samples will be off; take a schedule with more noise (schedule.kind, "
                    "schedule.sigma_max, sample.max_ratio), or data in another unit",
                    reach, ratio));
}

}  // namespace diffuse
