#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "cli/eval.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"

namespace diffuse::cli {
namespace {

using Row = nlohmann::ordered_json;

/// The number of letters, of which some take several bytes.
size_t width_of(const std::string& text) {
    return size_t(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

int exponent_of(double number) { return number == 0 ? 0 : int(std::floor(std::log10(std::abs(number)))); }

/// "7.2 ± 0.9", "0.982 ± 0.011", "1.21e-05 ± 3e-07": of the value what goes as far as the error, and of that two digits
/// up to 35, else one (Particle Data Group, "Review of particle physics", section 5.3 of its introduction).
std::string with_error(double value, double error) {
    if (error == 0) return fmt::format("{:.4g} ± 0", value);
    const int exponent = exponent_of(error);
    const double leading = error / std::pow(10, exponent);  // 1 to 10
    const int place = leading < 3.55 ? exponent - 1 : exponent;
    if (place > -6) return fmt::format("{0:.{2}f} ± {1:.{2}f}", value, error, std::max(0, -place));
    return fmt::format("{:.{}e} ± {:.{}e}", value, std::clamp(exponent_of(value) - place, 0, 15), error,
                       exponent - place);
}

bool is_error(const std::string& key) { return key.ends_with("_se"); }

/// The value of a key with its error, if it has one; empty where the row has none.
std::string cell_text(const Row& row, const std::string& key) {
    if (!row.contains(key)) return "";
    const auto& value = row[key];
    const auto error = row.find(key + "_se");
    if (error != row.end() && error->is_number() && value.is_number()) {
        return with_error(value.get<double>(), error->get<double>());
    }
    return value.is_number_float() ? fmt::format("{:.4g}", value.get<double>())
           : value.is_string()     ? value.get<std::string>()
           : value.is_null()       ? "-"
                                   : value.dump();
}

}  // namespace

void TextTable::widen(const Row& row) {
    for (const auto& [key, value] : row.items()) {
        if (value.is_array()) lists_.insert(key);
        if (is_error(key) || value.is_array()) continue;
        auto found = std::ranges::find(columns_, key, &Column::key);
        if (found == columns_.end()) found = columns_.insert(found, {key, width_of(key)});
        found->width = std::max(found->width, width_of(cell_text(row, key)));
    }
}

std::string TextTable::line(const std::function<std::string(const std::string& key)>& cell) const {
    std::string text;
    for (const auto& [key, width] : columns_) {
        const std::string content = cell(key);
        text += std::string(2 + width - std::min(width, width_of(content)), ' ') + content;
    }
    return text;
}

std::string TextTable::head() const {
    return line([](const std::string& key) { return key; });
}

std::string TextTable::row(const Row& values) const {
    return line([&](const std::string& key) { return cell_text(values, key); });
}

std::string TextTable::left_out() const {
    return lists_.empty() ? "" : fmt::format("(--json has {} too)", fmt::join(lists_, ", "));
}

std::string report_text(const Report& report, bool with_rows) {
    std::string text;
    for (const auto& [key, value] : report.head.items()) {
        if (!is_error(key)) text += fmt::format("{}{}: {}", text.empty() ? "" : "\n", key, cell_text(report.head, key));
    }
    TextTable table;
    for (const auto& row : report.rows) table.widen(row);
    if (with_rows && !report.rows.empty()) {
        text += "\n" + table.head();
        for (const auto& row : report.rows) text += "\n" + table.row(row);
    }
    if (!table.left_out().empty()) text += "\n" + table.left_out();
    return text;
}

RowTeller::RowTeller(bool quiet, bool json) {
    const bool same_screen = isatty(STDOUT_FILENO) && log::on_terminal();
    way_ = quiet || (same_screen && json) ? Way::kNot : same_screen ? Way::kAsTable : Way::kAsJson;
}

void RowTeller::tell(const Row& row) {
    if (way_ == Way::kAsJson) log::info(to_text(row));
    if (way_ != Way::kAsTable) return;
    const bool is_first = table_.empty();
    table_.widen(row);
    if (is_first) log::info(table_.head());
    log::info(table_.row(row));
}

}  // namespace diffuse::cli
