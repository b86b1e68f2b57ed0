#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

/// Options as data. Beside each struct of options stands a function `Fields fields(Options&)` that describes every one
/// of them once: its key, where its value lies, what it may be and what it means. From that description configs are
/// read, written, documented and compared (here), and the command line offers them (cli/command.hpp).
namespace diffuse {

/// A number from `low` to `high`; T is int64_t or double, or std::optional of one, where "not given" has a meaning.
template <class T>
struct Number {
    T* value;
    T low, high;
};
template <class T>
struct Number<std::optional<T>> {
    std::optional<T>* value;
    T low, high;
};

/// A whole number from `low` to `high`, or the word "auto" (no number here), for what is found out later.
struct NumberOrAuto {
    std::optional<int64_t>* value;
    int64_t low, high;
};

/// Two numbers from `low` to `high`, the second larger; no value where none are given.
struct Interval {
    std::optional<std::pair<double, double>>* value;
    double low, high;
};

/// Two numbers, the second larger, under each of any names.
struct Intervals {
    std::map<std::string, std::pair<double, double>>* value;
};

/// One of the names of a table; where it is `optional` also null, an empty name.
struct Choice {
    std::string* value;
    std::vector<std::string> known;
    bool optional = false;
};

/// Whole numbers from `low` to `high`, `min_size` to `max_size` of them.
struct List {
    std::vector<int64_t>* value;
    int64_t low, high;
    size_t min_size, max_size;
};

/// Numbers from `low` to `high`, any number of them.
struct Reals {
    std::vector<double>* value;
    double low, high;
};

/// Lists of numbers.
struct Rows {
    std::vector<std::vector<double>>* value;
};

/// Texts, any number of them.
struct Words {
    std::vector<std::string>* value;
};

/// The choice that a field belongs to: it means something only where the field `choice` of its section, which stands
/// before it, is one of `names`. Elsewhere it is refused and, but for null, not written.
struct Belongs {
    std::string choice = "";
    std::vector<std::string> names = {};
};

struct Field {
    using Value = std::variant<bool*, std::optional<bool>*, std::string*, std::optional<std::string>*, Number<int64_t>,
                               Number<double>, Number<std::optional<int64_t>>, Number<std::optional<double>>,
                               NumberOrAuto, Interval, Intervals, Choice, List, Reals, Rows, Words,
                               std::vector<Field>>;  ///< the last: a section, whose keys stand behind its own
    std::string key;
    Value value;
    std::string meaning = "";     ///< begins with what the thing is: "random seed for ..."
    bool may_change = false;      ///< in a run that is resumed
    std::string by_default = "";  ///< what holds where an optional value is not given
    Belongs belongs = {};
};
using Fields = std::vector<Field>;

/// Functions for each of the types that a field's value may have, as one: std::visit(Overloaded{...}, field.value).
template <class... F>
struct Overloaded : F... {
    using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

/// Strict: an unknown key, a wrong type or a value out of range throws Error that begins with `what`, if any, and names
/// the key by its path, what was found and what is expected; so does a key that belongs to another choice, unless it is
/// null or has the value that the field has anyway. Keys that are left out keep their values. A number that may be
/// infinite is "inf" then.
void read(const Fields& fields, const nlohmann::json& json, const std::string& what);

/// Without what belongs to other choices, unless it is null.
nlohmann::ordered_json to_json(const Fields& fields);
nlohmann::ordered_json value_of(const Field& field);

/// Throws Error for a field that belongs to another choice of its section. `prefix`: what stands before the keys.
void require_home(const Fields& section, const Field& field, const std::string& prefix = "");
/// The same for all optional values that are given.
void check_belonging(const Fields& fields, const std::string& prefix = "");
/// Takes away such values.
void forget_foreign(const Fields& fields);

/// All fields that are no sections, each with whole paths as its key and its choice.
Fields leaves(const Fields& fields);

/// "a whole number from 1 to 65536", "linear, cosine"
std::string expected(const Field& field);

/// A field on which two structs of options differ, with both values as JSON.
struct Change {
    std::string path, before, after;
    bool may_change;
};
std::vector<Change> changes(const Fields& before, const Fields& after);

}  // namespace diffuse
