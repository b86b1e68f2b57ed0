#include "diffuse/base/table.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <numeric>

namespace diffuse {
namespace {

/// How many letters must be put in, left out or swapped with their neighbour. A letter for another counts as two, so
/// that "dimm" is nearer to "ddim", which has its letters, than to "ddpm".
size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
    for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
    std::iota(d[0].begin(), d[0].end(), size_t{0});
    for (size_t i = 1; i <= a.size(); ++i) {
        for (size_t j = 1; j <= b.size(); ++j) {
            d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1] ? 2 : 0)});
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[a.size()][b.size()];
}

}  // namespace

std::optional<std::string> nearest_name(std::string_view name, std::span<const std::string> known) {
    const auto nearest = std::min_element(known.begin(), known.end(), [&](const auto& a, const auto& b) {
        return edit_distance(name, a) < edit_distance(name, b);
    });
    const size_t tolerated = std::max<size_t>(2, name.size() / 3);
    if (nearest == known.end() || edit_distance(name, *nearest) > tolerated) return std::nullopt;
    return *nearest;
}

std::string unknown_name(std::string_view kind, std::string_view name, std::span<const std::string> known) {
    const auto nearest = nearest_name(name, known);
    const std::string guess = nearest ? fmt::format(" did you mean '{}'?", *nearest) : "";
    return fmt::format("unknown {} '{}';{} known: {}", kind, name, guess, fmt::join(known, ", "));
}

}  // namespace diffuse
