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
/// up.
template <class T>
using Table = std::vector<std::pair<std::string, T>>;

template <class T>
std::vector<std::string> names(const Table<T>& table) {
    std::vector<std::string> result;
    for (const auto& [name, value] : table) result.push_back(name);
    return result;
}

/// The entry called `name`, or null.
template <class T>
const T* find(const Table<T>& table, std::string_view name) {
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
