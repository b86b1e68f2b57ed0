#include "diffuse/data/columns.hpp"

#include <fmt/format.h>

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

}  // namespace

Columns standardising(const std::vector<std::string>& names, const torch::Tensor& values, const std::string& what,
                      const std::optional<std::pair<double, double>>& bounds) {
    Columns columns;
    for (size_t i = 0; i < names.size(); ++i) {
        Column column{names[i], 0, 1, bounds};
        const auto u = unbounded(values.select(1, int64_t(i)), column).contiguous();
        column.mean = mean_of(u, 0, 1);
        column.std = std::sqrt(mean_of(u, column.mean, 2));
        if (!std::isfinite(column.std)) {
            throw Error(
                fmt::format("{}: the numbers of column '{}' are too large; take another unit", what, column.name));
        }
        if (!(column.std > 1e-12 * std::abs(column.mean))) {
            throw Error(
                fmt::format("{}: the column '{}' is the same number in every row; leave it out", what, column.name));
        }
        columns.push_back(column);
    }
    return columns;
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
        values.push_back(bounded(u, columns[i]));
    }
    return torch::stack(values, 1);
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
    }
    return json;
}

Columns columns_from_json(const nlohmann::json& json, const std::string& what) {
    const Error no_sense(fmt::format("{} makes no sense", what));
    const auto finite = [&](const nlohmann::json& value) {
        if (value.is_number() && std::isfinite(value.get<double>())) return value.get<double>();
        throw no_sense;
    };
    if (!json.is_array()) throw no_sense;
    Columns columns;
    for (const auto& one : json) {
        try {
            Column column{one.at("name"), finite(one.at("mean")), finite(one.at("std"))};
            if (one.contains("bounds")) column.bounds = {finite(one["bounds"].at(0)), finite(one["bounds"].at(1))};
            const bool ordered =
                !column.bounds || (one["bounds"].size() == 2 && column.bounds->first < column.bounds->second);
            if (!(column.std > 0) || !ordered) throw no_sense;
            columns.push_back(column);
        } catch (const nlohmann::json::exception&) {
            throw no_sense;
        }
    }
    return columns;
}

}  // namespace diffuse
