#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "diffuse/base/error.hpp"

namespace diffuse {

/// The one of `known` that `name` was probably meant to be; none when nothing is near (more than two edits, or a third
/// of the name).
std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> known);

/// "unknown solver 'dimm'; did you mean 'ddim'? known: ddpm, ddim, heun"
std::string unknown_name(std::string_view kind, std::string_view name, std::span<const std::string> known);

/// A table per kind of thing with a name (solver, schedule, dataset, spacing): what `--help` lists and what is looked
/// up. Who walks it sees each thing once.
template <class T>
struct Table : std::vector<std::pair<std::string, T>> {
    using Rows = std::vector<std::pair<std::string, T>>;
    using Rows::Rows;
    Table(Rows rows, std::vector<std::pair<std::string, std::string>> others)
        : Rows(std::move(rows)), aliases(std::move(others)) {}
    std::vector<std::pair<std::string, std::string>> aliases = {};  ///< other names: {"euler", "ddim"}
};

/// Of all rows, each with its other names behind it.
template <class T>
std::vector<std::string> names(const Table<T>& table) {
    std::vector<std::string> result;
    for (const auto& [name, value] : table) {
        result.push_back(name);
        for (const auto& [other, of] : table.aliases) {
            if (of == name) result.push_back(other);
        }
    }
    return result;
}

/// The entry called `name`, or null.
template <class T>
const T* find(const Table<T>& table, std::string_view name) {
    for (const auto& [other, of] : table.aliases) {
        if (other == name) return find(table, of);
    }
    const auto found = std::find_if(table.begin(), table.end(), [&](const auto& row) { return row.first == name; });
    return found == table.end() ? nullptr : &found->second;
}

/// The entry called `name`. Throws Error (`unknown_name`) when there is none.
template <class T>
const T& look_up(std::string_view kind, const Table<T>& table, std::string_view name) {
    if (const T* found = find(table, name)) return *found;
    throw Error(unknown_name(kind, name, names(table)));
}

}  // namespace diffuse
