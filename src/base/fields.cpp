#include "diffuse/base/fields.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "diffuse/base/error.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kAuto = "auto";

const char* type_name(int64_t) { return "a whole number"; }
const char* type_name(double) { return "a number"; }

template <class T>
std::string number_from(T low, T high) {
    return fmt::format("{} from {} to {}", type_name(low), low, high);
}

/// 1e3 too.
bool has_type(const Json& json, int64_t) {
    constexpr double kExact = 0x1p53;
    if (json.is_number_float()) {
        const double number = json.get<double>();
        return number == std::round(number) && std::abs(number) <= kExact;
    }
    return json.is_number_integer() && !(json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX});
}
bool has_type(const Json& json, double) { return json.is_number(); }
bool has_type(const Json& json, bool) { return json.is_boolean(); }
bool has_type(const Json& json, const std::string&) {
    return json.is_string() && json.get_ref<const std::string&>().find('\0') == std::string::npos;
}

/// What stands before a message.
std::string before(const std::string& what) { return what.empty() ? "" : what + ": "; }

/// Reads one value; errors name it by its path.
struct Reader {
    const Json& json;
    const std::string &what, &path;
    const Field& field;

    [[noreturn]] void reject(const std::string& where, const Json& found, const std::string& wanted) const {
        const std::string shown = found.is_structured() ? fmt::format("an {}", found.type_name()) : to_text(found);
        throw Error(fmt::format("{}{} is {}; expected {}", before(what), where, shown, wanted));
    }
    template <class T>
    T checked(const std::string& where, const Json& found, T low, T high) const {
        if constexpr (std::is_same_v<T, double>) {
            if (std::isinf(high) && found == number_json(high)) return high;
        }
        if (!has_type(found, low)) reject(where, found, number_from(low, high));
        const T value = found.get<T>();
        if (!(value >= low && value <= high)) reject(where, found, number_from(low, high));
        return value;
    }
    template <class T>
    void take(T* value) const {
        if (!has_type(json, T{})) reject(path, json, expected(field));
        *value = json.get<T>();
    }

    void operator()(bool* value) const { take(value); }
    void operator()(std::string* value) const { take(value); }
    void operator()(std::optional<bool>* value) const {
        value->reset();
        if (!json.is_null()) take(&value->emplace());
    }
    /// A name may be a number.
    void operator()(std::optional<std::string>* value) const {
        value->reset();
        if (has_type(json, int64_t{}))
            *value = std::to_string(json.get<int64_t>());
        else if (!json.is_null())
            take(&value->emplace());
    }
    template <class T>
    void operator()(const Number<T>& number) const {
        *number.value = checked(path, json, number.low, number.high);
    }
    template <class T>
    void operator()(const Number<std::optional<T>>& number) const {
        number.value->reset();
        if (!json.is_null()) *number.value = checked(path, json, number.low, number.high);
    }
    void operator()(const NumberOrAuto& number) const {
        number.value->reset();
        if (json == kAuto) return;
        const bool fits = has_type(json, number.low) && json >= number.low && json <= number.high;
        if (!fits) reject(path, json, expected(field));
        *number.value = json.get<int64_t>();
    }
    std::pair<double, double> two_of(const std::string& where, const Json& found, double low, double high) const {
        if (!found.is_array() || found.size() != 2) reject(where, found, expected(field));
        const double from = checked(where + "[0]", found[0], low, high),
                     to = checked(where + "[1]", found[1], low, high);
        if (!(from < to)) reject(where, found, expected(field));
        return {from, to};
    }
    void operator()(const Interval& interval) const {
        interval.value->reset();
        if (!json.is_null()) *interval.value = two_of(path, json, interval.low, interval.high);
    }
    void operator()(const Intervals& intervals) const {
        constexpr double kMost = std::numeric_limits<double>::max();
        intervals.value->clear();
        if (!json.is_object()) reject(path, json, expected(field));
        for (const auto& item : json.items()) {
            (*intervals.value)[item.key()] = two_of(path + "." + item.key(), item.value(), -kMost, kMost);
        }
    }
    void operator()(const Choice& choice) const {
        if (choice.optional && json.is_null()) return choice.value->clear();
        take(choice.value);
        if (std::find(choice.known.begin(), choice.known.end(), *choice.value) != choice.known.end()) return;
        throw Error(before(what) + unknown_name(path, *choice.value, choice.known));
    }
    void operator()(const List& list) const {
        if (!json.is_array() || json.size() < list.min_size || json.size() > list.max_size)
            reject(path, json, expected(field));
        list.value->clear();
        for (size_t i = 0; i < json.size(); ++i) {
            list.value->push_back(checked(fmt::format("{}[{}]", path, i), json[i], list.low, list.high));
        }
    }
    /// Calls take(where, value) for each value of a list.
    template <class Take>
    void each_of(const std::string& where, const Json& list, const Take& take) const {
        if (!list.is_array()) reject(where, list, expected(field));
        for (size_t i = 0; i < list.size(); ++i) take(fmt::format("{}[{}]", where, i), list[i]);
    }
    void operator()(const Reals& reals) const {
        reals.value->clear();
        each_of(path, json, [&](const std::string& where, const Json& found) {
            reals.value->push_back(checked(where, found, reals.low, reals.high));
        });
    }
    void operator()(const Rows& rows) const {
        constexpr double kMost = 1e9;
        rows.value->clear();
        each_of(path, json, [&](const std::string& where, const Json& row) {
            rows.value->emplace_back();
            each_of(where, row, [&](const std::string& inside, const Json& found) {
                rows.value->back().push_back(checked(inside, found, -kMost, kMost));
            });
        });
    }
    void operator()(const Words& words) const {
        words.value->clear();
        each_of(path, json, [&](const std::string& where, const Json& found) {
            if (!has_type(found, std::string())) reject(where, found, "a text");
            words.value->push_back(found.get<std::string>());
        });
    }
    void operator()(const Fields& section) const;
};

/// What is chosen by the field that this one belongs to.
const std::string& chosen(const Fields& section, const Field& field) {
    const auto choice = std::ranges::find(section, field.belongs.choice, &Field::key);
    return *std::get<Choice>(choice->value).value;
}

bool is_at_home(const Fields& section, const Field& field) {
    const Belongs& belongs = field.belongs;
    return belongs.choice.empty() || std::ranges::find(belongs.names, chosen(section, field)) != belongs.names.end();
}

/// "train.levels_std belongs to train.levels log-normal, logit-normal; here that is uniform"
std::string homeless(const Fields& section, const Field& field, const std::string& prefix) {
    const std::string& here = chosen(section, field);
    return fmt::format("{0}{1} belongs to {0}{2} {3}; here that is {4}", prefix, field.key, field.belongs.choice,
                       fmt::join(field.belongs.names, ", "), here.empty() ? "not given" : here);
}

void read_section(const Fields& fields, const Json& json, const std::string& what, const std::string& prefix) {
    std::vector<std::string> paths;
    for (const auto& field : fields) {
        paths.push_back(prefix + field.key);
        const auto found = json.find(field.key);
        if (found == json.end()) continue;
        const bool is_idle = found->is_null() || *found == Json(value_of(field));
        if (!is_idle && !is_at_home(fields, field)) {
            throw Error(before(what) + homeless(fields, field, prefix));
        }
        std::visit(Reader{*found, what, paths.back(), field}, field.value);
    }
    for (const auto& item : json.items()) {
        if (std::find(paths.begin(), paths.end(), prefix + item.key()) != paths.end()) continue;
        throw Error(before(what) + unknown_name("key", prefix + item.key(), paths));
    }
}

void Reader::operator()(const Fields& section) const {
    if (!json.is_object()) reject(path, json, expected(field));
    read_section(section, json, what, path + ".");
}

template <class T>
OrderedJson json_of(const T& value) {
    return value;
}
/// Where a field ends in a finite number, what is beyond all numbers becomes the largest one.
OrderedJson json_of(double value, double high) {
    if (std::isinf(high)) return number_json(value);
    return std::clamp(value, std::numeric_limits<double>::lowest(), std::numeric_limits<double>::max());
}
template <class T>
OrderedJson json_of(const std::optional<T>& value) {
    return value ? json_of(*value) : OrderedJson();
}

/// Whether it holds a value that it need not have.
bool is_given(const Field& field) {
    return std::visit(Overloaded{[](std::optional<bool>* value) { return value->has_value(); },
                                 [](std::optional<std::string>* value) { return value->has_value(); },
                                 [](const Number<std::optional<int64_t>>& number) { return number.value->has_value(); },
                                 [](const Number<std::optional<double>>& number) { return number.value->has_value(); },
                                 [](const Interval& interval) { return interval.value->has_value(); },
                                 [](const Choice& choice) { return choice.optional && !choice.value->empty(); },
                                 [](const auto&) { return false; }},
                      field.value);
}

}  // namespace

OrderedJson value_of(const Field& field) {
    return std::visit(
        Overloaded{
            [](const Fields& section) { return to_json(section); }, [](auto* value) { return json_of(*value); },
            [](const Choice& choice) {
                return choice.optional && choice.value->empty() ? OrderedJson() : OrderedJson(*choice.value);
            },
            [](const NumberOrAuto& number) { return *number.value ? json_of(**number.value) : json_of(kAuto); },
            [](const Number<double>& number) { return json_of(*number.value, number.high); },
            [](const Number<std::optional<double>>& number) {
                return *number.value ? json_of(**number.value, number.high) : OrderedJson();
            },
            [](const Interval& interval) {
                const auto& pair = *interval.value;
                if (!pair) return OrderedJson();
                return OrderedJson::array({json_of(pair->first, interval.high), json_of(pair->second, interval.high)});
            },
            [](const auto& described) { return json_of(*described.value); }},
        field.value);
}

void read(const Fields& fields, const Json& json, const std::string& what) {
    if (!json.is_object()) Reader{json, what, "the file", {"", fields}}.reject("the file", json, "an object");
    read_section(fields, json, what, "");
}

OrderedJson to_json(const Fields& fields) {
    OrderedJson json = OrderedJson::object();
    for (const auto& field : fields) {
        const auto value = value_of(field);
        if (value.is_null() || is_at_home(fields, field)) json[field.key] = value;
    }
    return json;
}

void require_home(const Fields& section, const Field& field, const std::string& prefix) {
    if (!is_at_home(section, field)) throw Error(homeless(section, field, prefix));
}

void check_belonging(const Fields& fields, const std::string& prefix) {
    for (const auto& field : fields) {
        if (is_given(field)) require_home(fields, field, prefix);
    }
}

void forget_foreign(const Fields& fields) {
    for (const auto& field : fields) {
        if (is_given(field) && !is_at_home(fields, field)) read({{field.key, field.value}}, {{field.key, nullptr}}, "");
    }
}

Fields leaves(const Fields& fields) {
    Fields all;
    for (const auto& field : fields) {
        const auto* section = std::get_if<Fields>(&field.value);
        if (!section) {
            all.push_back(field);
            continue;
        }
        for (auto& leaf : leaves(*section)) {
            leaf.key = field.key + "." + leaf.key;
            if (auto& choice = leaf.belongs.choice; !choice.empty()) choice = field.key + "." + choice;
            all.push_back(std::move(leaf));
        }
    }
    return all;
}

std::string expected(const Field& field) {
    return std::visit(
        Overloaded{
            [](bool*) -> std::string { return "true or false"; },
            [](std::optional<bool>*) -> std::string { return "true, false or null"; },
            [](std::string*) -> std::string { return "a text"; },
            [](std::optional<std::string>*) -> std::string { return "a text or a whole number"; },
            [](const NumberOrAuto& number) {
                return fmt::format("{}, or {}", number_from(number.low, number.high), kAuto);
            },
            [](const Choice& choice) { return fmt::format("{}", fmt::join(choice.known, ", ")); },
            [](const Interval& interval) {
                return fmt::format("two numbers from {} to {}, the second larger", interval.low, interval.high);
            },
            [](const Intervals&) -> std::string { return "an object of two numbers each, the second larger"; },
            [](const List& list) {
                return fmt::format("a list of {} to {} whole numbers from {} to {}", list.min_size, list.max_size,
                                   list.low, list.high);
            },
            [](const Reals& reals) { return fmt::format("a list of numbers from {} to {}", reals.low, reals.high); },
            [](const Rows&) -> std::string { return "a list of lists of numbers"; },
            [](const Words&) -> std::string { return "a list of texts"; },
            [](const Fields&) -> std::string { return "an object"; },
            [](const auto& number) { return number_from(number.low, number.high); }},
        field.value);
}

std::vector<Change> changes(const Fields& before, const Fields& after) {
    const Fields a = leaves(before), b = leaves(after);
    std::vector<Change> result;
    for (size_t i = 0; i < a.size(); ++i) {
        const auto x = value_of(a[i]), y = value_of(b[i]);
        if (x != y) result.push_back({a[i].key, to_text(x), to_text(y), a[i].may_change});
    }
    return result;
}

}  // namespace diffuse
