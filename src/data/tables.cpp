#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>

#include "data/checksum.hpp"
#include "data/kinds.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/data/csv.hpp"
#include "diffuse/data/simulators.hpp"

namespace diffuse {
namespace {

/// The columns of a table that are among `chosen`, in the table's order, or those that are not.
NumberTable columns_of(const NumberTable& table, const std::vector<std::string>& chosen, bool among) {
    NumberTable part;
    std::vector<torch::Tensor> values;
    for (size_t i = 0; i < table.columns.size(); ++i) {
        const bool is_chosen = std::ranges::find(chosen, table.columns[i]) != chosen.end();
        if (is_chosen != among) continue;
        part.columns.push_back(table.columns[i]);
        values.push_back(table.values.select(1, int64_t(i)));
    }
    if (!values.empty()) part.values = torch::stack(values, 1);
    part.lines = table.lines;
    return part;
}

/// Whether each row is held out: the CRC-32 of its content is below this share, where equal rows stand above it also of
/// their number. So copies are shared out too, and rows stay on their side when others are added.
torch::Tensor held_out(const torch::Tensor& values, double share) {
    auto result = torch::empty({values.size(0)}, torch::kBool);
    const size_t size = size_t(values.size(1)) * sizeof(double);
    std::unordered_map<std::string_view, uint64_t> copies;
    for (int64_t i = 0; i < values.size(0); ++i) {
        const std::string_view row = bytes_of(values).substr(size_t(i) * size, size);
        const uint64_t above = copies[row]++;
        std::string content(row);
        if (above > 0) content += std::to_string(above);
        result.data_ptr<bool>()[i] = double(crc32_of(content)) < share * 4294967296.0;
    }
    return result;
}

/// Points, and what is given beside them: as their columns say, which are measured over the rows of `training`.
Dataset dataset_of(const NumberTable& points, const NumberTable& given, const torch::Tensor& training,
                   const std::string& what, const std::map<std::string, Ends>& bounds) {
    const auto in_training = [&](const torch::Tensor& values) { return values.index_select(0, training); };
    DataSpec spec{.shape = ExampleShape::of_points(points.values.size(1)),
                  .codec = {standardising(points.columns, in_training(points.values), what, bounds)}};
    const auto examples = spec.codec.encode(points.values);
    if (given.columns.empty()) return {examples, {}, spec};
    spec.condition.numbers = standardising(given.columns, in_training(given.values), what);
    return {examples, {.numbers = standardised(given.values, spec.condition.numbers)}, spec};
}

void check_condition(const DatasetOptions& options, const NumberTable& table) {
    for (const auto& name : options.condition) {
        if (std::ranges::find(table.columns, name) != table.columns.end()) continue;
        throw Error(fmt::format("config: dataset.condition: {}: {}", options.file,
                                unknown_name("column", name, table.columns)));
    }
}

/// Throws Error where bounds are of no column that is drawn, and where a row does not keep them.
void check_bounds_of(const DatasetOptions& options, const NumberTable& points) {
    for (const auto& [name, ends] : options.bounds) {
        const auto found = std::ranges::find(points.columns, name);
        if (found == points.columns.end()) {
            throw Error(fmt::format("config: dataset.bounds: {}: {}", options.file,
                                    unknown_name("column that is drawn", name, points.columns)));
        }
        const auto x = points.values.select(1, found - points.columns.begin());
        require_within(ends, x, points.lines, name, options.file);
    }
}

/// The standard deviation of normal numbers with the quartiles of these, which outliers do not move; and the median.
struct Middle {
    double median, std;
};
Middle middle_of(const torch::Tensor& x) {
    constexpr double kQuartiles = 1.349;  // between those of a standard normal distribution
    const auto sorted = std::get<0>(x.sort());
    const auto at = [&](int64_t quarter) { return sorted[quarter * (x.size(0) - 1) / 4].item<double>(); };
    return {at(2), (at(3) - at(1)) / kQuartiles};
}

/// Warns of few rows of a column that are so far out that standardising makes nearly one number of all others.
void warn_of_outliers(const NumberTable& table, const std::string& file) {
    constexpr double kFar = 20, kWider = 5;
    const int64_t few = std::max<int64_t>(1, table.values.size(0) / 100);
    for (size_t i = 0; i < table.columns.size(); ++i) {
        const auto x = table.values.select(1, int64_t(i));
        const Middle middle = middle_of(x);
        const auto distance = (x - middle.median).abs() / middle.std;
        const auto far = distance.gt(kFar).sum().item<int64_t>();
        const bool is_squeezed = middle.std > 0 && x.std().item<double>() > kWider * middle.std;
        if (far == 0 || far > few || !is_squeezed) continue;
        const auto row = distance.argmax().item<int64_t>();
        log::warn(
            fmt::format("{}: line {}, column '{}': {:g} is {:.2g} standard deviations from the median{}; a "
                        "network sees numbers standardised, so all others become nearly one number, and samples "
                        "too wide; mend or remove it, or take logarithms",
                        file, table.lines[size_t(row)], table.columns[i], x[row].item<double>(),
                        distance[row].item<double>(), far > 1 ? fmt::format(" ({} rows are far out)", far) : ""));
    }
}

/// Says what is done to a table.
void report_table(const DatasetOptions& options, const NumberTable& table, const Columns& drawn) {
    if (table.gaps > 0) {
        log::warn(fmt::format("{}: {} of {} rows have gaps and are skipped", options.file, table.gaps,
                              table.gaps + table.values.size(0)));
    }
    warn_of_outliers(table, options.file);
    std::vector<std::string> whole;
    for (const auto& column : drawn) {
        if (column.whole) whole.push_back(column.name);
    }
    if (whole.empty()) return;
    log::info(
        fmt::format("{}: samples of {} are rounded, as all rows are whole numbers; not so with "
                    "dataset.round=false",
                    options.file, fmt::join(whole, ", ")));
}

NumberTable read_table(const DatasetOptions& options) {
    if (options.file.empty()) throw Error("config: dataset.file is empty; kind table needs the path of a CSV file");
    if (!path_exists(options.file)) {
        throw Error(fmt::format("there is no file {}; say where it is by dataset.file", display_path(options.file)));
    }
    const NumberTable table = read_csv(options.file, {.skip = options.skip_columns, .skip_gaps = options.skip_bad});
    constexpr size_t kMaxColumns = 4096;
    if (table.columns.size() <= kMaxColumns) return table;
    throw Error(
        fmt::format("{}: it has {} columns; at most {} are taken", options.file, table.columns.size(), kMaxColumns));
}

}  // namespace

Dataset load_table(const DatasetOptions& options, Split split) {
    const NumberTable table = read_table(options);
    check_condition(options, table);
    const NumberTable points = columns_of(table, options.condition, /*among=*/false);
    if (points.columns.empty()) {
        throw Error(
            "config: dataset.condition and dataset.skip_columns name every column of the table, so that none "
            "is left to draw");
    }
    check_bounds_of(options, points);
    const auto held = held_out(table.values.contiguous(), options.test_share);
    const auto training = held.logical_not().nonzero().flatten(), test = held.nonzero().flatten();
    const auto& rows = split == Split::kTrain ? training : test;
    if (rows.size(0) < 2) {
        throw Error(fmt::format("{}: {} of its {} rows are for {}; give it more, or another dataset.test_share",
                                options.file, rows.size(0), table.values.size(0),
                                split == Split::kTrain ? "training" : "tests"));
    }
    Dataset all =
        dataset_of(points, columns_of(table, options.condition, true), training, options.file, options.bounds);
    for (auto& column : all.spec.codec.columns) column.whole = column.whole && options.round;
    if (split == Split::kTrain) report_table(options, table, all.spec.codec.columns);
    return all.rows(rows);
}

Dataset simulate(const DatasetOptions& options, Split split) {
    constexpr int64_t kDefault = 30'000;
    const Simulator& simulator = look_up("simulator", simulators(), options.simulator);
    const int64_t count = options.limit > 0 ? options.limit : kDefault;
    const auto drawn = [&](int64_t first, int64_t size) {
        const auto theta = simulator.prior(uint64_t(options.seed), first, size);
        return std::pair(theta, simulator.simulate(theta, uint64_t(options.seed), first));
    };
    const auto numbered = [](const char* prefix, int64_t size) {
        std::vector<std::string> names;
        for (int64_t i = 1; i <= size; ++i) names.push_back(fmt::format("{}{}", prefix, i));
        return names;
    };
    const auto parameters = numbered("theta", simulator.parameters);
    std::map<std::string, Ends> bounds;
    for (const auto& name : parameters) {
        if (simulator.bounds) bounds[name] = *simulator.bounds;
    }
    auto [theta, y] = drawn(0, count);
    const int64_t tests = split == Split::kTest ? std::min(count, kMaxDrawnTest) : 0;
    if (tests > 0) {
        const auto [more_theta, more_y] = drawn(kFirstDrawnTest, tests);
        theta = torch::cat({theta, more_theta}), y = torch::cat({y, more_y});
    }
    const Dataset all = dataset_of({parameters, theta}, {numbered("y", simulator.observations), y},
                                   torch::arange(count), "simulator " + options.simulator, bounds);
    return tests > 0 ? all.part(count, tests) : all;
}

}  // namespace diffuse
