#include <fmt/format.h>

#include <algorithm>

#include "data/checksum.hpp"
#include "data/kinds.hpp"
#include "diffuse/base/error.hpp"
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
    return part;
}

/// Whether each row is held out: its content's CRC-32 is below this share.
torch::Tensor held_out(const torch::Tensor& values, double share) {
    auto result = torch::empty({values.size(0)}, torch::kBool);
    const size_t row = size_t(values.size(1)) * sizeof(double);
    for (int64_t i = 0; i < values.size(0); ++i) {
        const uint32_t crc = crc32_of(bytes_of(values).substr(size_t(i) * row, row));
        result.data_ptr<bool>()[i] = double(crc) < share * 4294967296.0;
    }
    return result;
}

/// Points, and what is given beside them: as their columns say, which are measured over the rows of `training`.
Dataset dataset_of(const NumberTable& points, const NumberTable& given, const torch::Tensor& training,
                   const std::string& what, const std::optional<std::pair<double, double>>& bounds = {}) {
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

}  // namespace

Dataset load_table(const DatasetOptions& options, Split split) {
    if (options.file.empty()) throw Error("config: dataset.file is empty; kind table needs the path of a CSV file");
    const NumberTable table = read_csv(options.file);
    constexpr size_t kMaxColumns = 4096;
    if (table.columns.size() > kMaxColumns) {
        throw Error(fmt::format("{}: it has {} columns; at most {} are taken", options.file, table.columns.size(),
                                kMaxColumns));
    }
    check_condition(options, table);
    const NumberTable points = columns_of(table, options.condition, /*among=*/false);
    if (points.columns.empty()) {
        throw Error("config: dataset.condition names every column of the table, so that none is left to draw");
    }
    const auto held = held_out(table.values.contiguous(), options.test_share);
    const auto training = held.logical_not().nonzero().flatten(), test = held.nonzero().flatten();
    const auto& rows = split == Split::kTrain ? training : test;
    if (rows.size(0) < 2) {
        throw Error(fmt::format("{}: {} of its {} rows are for {}; give it more, or another dataset.test_share",
                                options.file, rows.size(0), table.values.size(0),
                                split == Split::kTrain ? "training" : "tests"));
    }
    return dataset_of(points, columns_of(table, options.condition, true), training, options.file).rows(rows);
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
    auto [theta, y] = drawn(0, count);
    const int64_t tests = split == Split::kTest ? std::min(count, kMaxDrawnTest) : 0;
    if (tests > 0) {
        const auto [more_theta, more_y] = drawn(kFirstDrawnTest, tests);
        theta = torch::cat({theta, more_theta}), y = torch::cat({y, more_y});
    }
    const Dataset all =
        dataset_of({numbered("theta", simulator.parameters), theta}, {numbered("y", simulator.observations), y},
                   torch::arange(count), "simulator " + options.simulator, simulator.bounds);
    return tests > 0 ? all.part(count, tests) : all;
}

}  // namespace diffuse
