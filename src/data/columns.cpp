#include "diffuse/data/columns.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "diffuse/base/error.hpp"

namespace diffuse {
namespace {

/// Of the share that lies below: so near to 0 or 1 that doubles still tell it from them.
constexpr double kNearest = 1e-12;

torch::Tensor unbounded(const torch::Tensor& x, const Column& column) {
    if (!column.bounds) return x;
    const auto [low, high] = *column.bounds;
    return ((x - low) / (high - low)).clamp(kNearest, 1 - kNearest).logit();
}

/// The nearest whole numbers, of those within the bounds.
torch::Tensor rounded(const torch::Tensor& numbers, const Column& column) {
    if (!column.bounds) return numbers.round();
    return numbers.round().clamp(std::ceil(column.bounds->first), std::floor(column.bounds->second));
}

torch::Tensor bounded(const torch::Tensor& u, const Column& column) {
    if (!column.bounds) return u;
    const auto [low, high] = *column.bounds;
    return low + (high - low) * u.sigmoid();
}

/// The mean of (u - middle)^power, summed one by one, so that its last digits depend on no number of threads.
double mean_of(const torch::Tensor& u, double middle, int power) {
    const double* values = u.data_ptr<double>();
    double sum = 0;
    for (int64_t i = 0; i < u.numel(); ++i) sum += std::pow(values[i] - middle, power);
    return sum / double(u.numel());
}

/// The standard deviation, in a unit in which squares are doubles too: those of 1e-170 and 1e170 are not.
double std_of(const torch::Tensor& u, double mean) {
    constexpr double kLarge = 1e100;
    const double largest = (u - mean).abs().max().item<double>();
    const bool is_moderate = largest == 0 || (largest > 1 / kLarge && largest < kLarge);
    const double unit = is_moderate ? 1 : std::exp2(std::ilogb(largest));
    return unit * std::sqrt(mean_of(u / unit, mean / unit, 2));
}

Column standardising_column(const std::string& name, const torch::Tensor& values, const std::string& what,
                            const std::optional<Ends>& bounds) {
    Column column{.name = name, .bounds = bounds};
    const auto u = unbounded(values, column).contiguous();
    column.mean = mean_of(u, 0, 1);
    column.std = std_of(u, column.mean);
    column.whole = values.eq(values.round()).all().item<bool>();
    column.range = range_of(values);
    if (!std::isfinite(column.std)) {
        throw Error(fmt::format("{}: the numbers of column '{}' are too large; take another unit", what, name));
    }
    if (column.std > 1e-12 * std::abs(column.mean)) return column;
    const auto bits = values.view(torch::kInt64);  // numbers below 1e-308 may count as 0
    const bool is_one = bits.eq(bits[0]).all().item<bool>();
    throw Error(fmt::format("{}: {}; leave it out by dataset.skip_columns", what,
                            is_one
                                ? fmt::format("the column '{}' is the same number in every row", name)
                                : fmt::format("the numbers of column '{}' differ by too little (1e-12 of their size, "
                                              "or 1e-300): subtract what they share, take another unit",
                                              name)));
}

}  // namespace

Columns standardising(const std::vector<std::string>& names, const torch::Tensor& values, const std::string& what,
                      const std::map<std::string, Ends>& bounds) {
    Columns columns;
    for (size_t i = 0; i < names.size(); ++i) {
        const auto own = bounds.find(names[i]);
        columns.push_back(standardising_column(names[i], values.select(1, int64_t(i)), what,
                                               own == bounds.end() ? std::nullopt : std::optional(own->second)));
    }
    return columns;
}

Ends range_of(const torch::Tensor& values) { return {values.min().item<double>(), values.max().item<double>()}; }

void require_within(const Ends& ends, const torch::Tensor& values, const std::vector<int64_t>& lines,
                    const std::string& name, const std::string& what) {
    const auto outside = values.lt(ends.first).logical_or(values.gt(ends.second)).nonzero();
    if (outside.size(0) == 0) return;
    const auto row = outside[0][0].item<int64_t>();
    throw Error(fmt::format("{}: line {}, column '{}': {} is outside of its dataset.bounds, {} to {}", what,
                            lines[size_t(row)], name, values[row].item<double>(), ends.first, ends.second));
}

torch::Tensor standardised(const torch::Tensor& values, const Columns& columns) {
    std::vector<torch::Tensor> z;
    for (size_t i = 0; i < columns.size(); ++i) {
        z.push_back((unbounded(values.select(1, int64_t(i)), columns[i]) - columns[i].mean) / columns[i].std);
    }
    return torch::stack(z, 1).to(torch::kFloat32);
}

torch::Tensor restored(const torch::Tensor& z, const Columns& columns) {
    std::vector<torch::Tensor> values;
    for (size_t i = 0; i < columns.size(); ++i) {
        const auto u = columns[i].mean + columns[i].std * z.select(1, int64_t(i)).to(torch::kFloat64);
        const auto number = bounded(u, columns[i]);
        values.push_back(columns[i].whole ? rounded(number, columns[i]) : number);
    }
    return torch::stack(values, 1);
}

std::vector<double> steps_of(const Columns& columns) {
    constexpr double kStepOfFloat = 0x1p-24;  // between 0.5 and 1
    std::vector<double> steps;
    for (const auto& column : columns) {
        steps.push_back(column.whole || column.bounds ? 0 : kStepOfFloat * column.std);
    }
    return steps;
}

bool fit_float32(const Columns& columns) {
    constexpr double kFew = 1e-4;                    // of a standard deviation
    constexpr double kSmall = 1e-35, kLarge = 1e35;  // not far from where float32 ends
    return std::ranges::all_of(columns, [](const Column& column) {
        const Ends inside = column.bounds.value_or(Ends{column.mean - column.std, column.mean + column.std});
        const double largest = std::max(std::abs(inside.first), std::abs(inside.second));
        const double spread = (inside.second - inside.first) / 2;
        return largest < kLarge && spread > kSmall && largest * 0x1p-24 < kFew * spread;
    });
}

torch::Tensor log_slope(const torch::Tensor& z, const Columns& columns) {
    auto sum = torch::zeros({z.size(0)}, torch::kFloat64);
    for (size_t i = 0; i < columns.size(); ++i) {
        const Column& column = columns[i];
        sum += std::log(column.std);
        if (!column.bounds) continue;
        const auto u = column.mean + column.std * z.select(1, int64_t(i)).to(torch::kFloat64);
        sum += std::log(column.bounds->second - column.bounds->first) + torch::log_sigmoid(u) + torch::log_sigmoid(-u);
    }
    return sum;
}

std::vector<std::string> names(const Columns& columns) {
    std::vector<std::string> all;
    for (const auto& column : columns) all.push_back(column.name);
    return all;
}

nlohmann::ordered_json to_json(const Columns& columns) {
    auto json = nlohmann::ordered_json::array();
    for (const auto& column : columns) {
        json.push_back({{"name", column.name}, {"mean", column.mean}, {"std", column.std}});
        if (column.bounds) json.back()["bounds"] = *column.bounds;
        if (column.whole) json.back()["whole"] = true;
        if (column.range) json.back()["range"] = *column.range;
    }
    return json;
}

Columns columns_from_json(const nlohmann::json& json, const std::string& what) {
    const Error no_sense(fmt::format("{} makes no sense", what));
    const auto finite = [&](const nlohmann::json& value) {
        if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
        throw no_sense;
    };
    const auto ends = [&](const nlohmann::json& one, const char* key) -> std::optional<Ends> {
        if (!one.contains(key)) return std::nullopt;
        const Ends found{finite(one[key].at(0)), finite(one[key].at(1))};
        if (one[key].size() != 2 || found.first > found.second) throw no_sense;
        return found;
    };
    if (!json.is_array()) throw no_sense;
    Columns columns;
    for (const auto& one : json) {
        try {
            Column column{one.at("name"), finite(one.at("mean")), finite(one.at("std")), ends(one, "bounds")};
            column.whole = one.value("whole", false);
            column.range = ends(one, "range");
            const bool is_empty = column.bounds && column.bounds->first == column.bounds->second;
            if (!(column.std > 0) || is_empty) throw no_sense;
            columns.push_back(column);
        } catch (const nlohmann::json::exception&) {
            throw no_sense;
        }
    }
    return columns;
}

}  // namespace diffuse
