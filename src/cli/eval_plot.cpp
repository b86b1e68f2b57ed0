#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>

#include "cli/eval.hpp"
#include "diffuse/base/error.hpp"

namespace diffuse::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string words(const Json& value) {
    return value.is_string()         ? value.get<std::string>()
           : value.is_number_float() ? fmt::format("{:g}", value.get<double>())
                                     : value.dump();
}

size_t different_values(const Json& rows, const std::string& column) {
    std::set<std::string> values;
    for (const auto& row : rows) {
        if (row.contains(column)) values.insert(words(row[column]));
    }
    return values.size();
}

/// The columns that tell one curve from another.
std::vector<std::string> naming_columns(const Json& rows, const EvalOptions& options, const std::string& x) {
    std::vector<std::string> columns;
    for (const std::string column : {"solver", "spacing", "interval"}) {
        if (different_values(rows, column) > 1) columns.push_back(column);
    }
    if (x == "guidance" && values_of(options, "steps") > 1) columns.push_back("steps");
    return columns;
}

/// The rows of all classes together.
Json rows_of_all(const Json& rows) {
    Json result = Json::array();
    for (const auto& row : rows) {
        if (row.value("class", "all") == "all") result.push_back(row);
    }
    return result;
}

/// The rows of one curve: those of these values, and those without guidance, which belong to every interval.
bool belongs(const Json& row, const std::map<std::string, std::string>& curve) {
    return std::ranges::all_of(curve, [&](const auto& one) {
        const std::string value = words(row[one.first]);
        return value == one.second || (one.first == "interval" && value == "-");
    });
}

std::vector<std::map<std::string, std::string>> curves_of(const Json& rows, const std::vector<std::string>& naming) {
    std::vector<std::map<std::string, std::string>> curves;
    for (const auto& row : rows) {
        std::map<std::string, std::string> curve;
        for (const auto& column : naming) curve[column] = words(row[column]);
        const bool of_every_interval = curve.contains("interval") && curve["interval"] == "-";
        if (!of_every_interval && std::ranges::find(curves, curve) == curves.end()) curves.push_back(curve);
    }
    return curves;
}

Curve make_curve(const Json& rows, const std::map<std::string, std::string>& which, const std::string& x,
                 const std::string& y) {
    std::vector<std::string> name;
    for (const auto& [column, value] : which) name.push_back(fmt::format("{} {}", column, value));
    Curve curve{.name = name.empty() ? y : fmt::format("{}", fmt::join(name, ", ")), .mark = Mark::kErrors};
    for (const auto& row : rows) {
        if (!belongs(row, which)) continue;
        const auto& error = row[y + "_se"];
        curve.x.push_back(row[x].get<double>()), curve.y.push_back(row[y].get<double>());
        curve.u.push_back(error.is_null() ? 0 : error.get<double>());
    }
    return curve;
}

/// What real images have, over the range of all curves.
Curve floor_curve(const std::vector<Curve>& curves, const Report& report) {
    std::vector<double> x;
    for (const auto& curve : curves) x.insert(x.end(), curve.x.begin(), curve.x.end());
    const auto [low, high] = std::ranges::minmax(x);
    const double floor = report.head["floor"].get<double>();
    return {"real images", {low, high}, {floor, floor}, Mark::kDashed};
}

}  // namespace

void check_plot(const EvalOptions& options, bool of_curves) {
    if (options.plot.empty()) return;
    require_gnuplot();
    if (!of_curves) return;
    const size_t guidance = values_of(options, "guidance"), steps = values_of(options, "steps"),
                 nfe = values_of(options, "nfe");
    if (guidance > 1 && nfe > 1)
        throw Error("--plot over several scales of guidance takes one nfe; vary steps instead");
    if (std::max({guidance, steps, nfe}) < 2) {
        throw Error("--plot: but one point to draw; --vary guidance, steps or nfe");
    }
}

Figure figure_of(const Report& report, const EvalOptions& options, const std::vector<std::string>& columns) {
    const Json rows = rows_of_all(report.rows);
    const std::string x = values_of(options, "guidance") > 1 ? "guidance" : "nfe";
    const auto naming = naming_columns(rows, options, x);
    Figure figure{.title = fmt::format("{} samples each", report.head["samples"].dump()), .panels = {}};
    for (const auto& column : columns) {
        if (!rows.front().contains(column)) continue;
        Panel panel{x == "guidance" ? "guidance scale" : "network evaluations", column, {}};
        for (const auto& which : curves_of(rows, naming)) panel.curves.push_back(make_curve(rows, which, x, column));
        if (column == "fid") panel.curves.push_back(floor_curve(panel.curves, report));
        figure.panels.push_back(std::move(panel));
    }
    return figure;
}

}  // namespace diffuse::cli
