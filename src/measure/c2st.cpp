#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/data/simulators.hpp"
#include "diffuse/measure/two_sample.hpp"
#include "measure/measures.hpp"

namespace diffuse {
namespace {

const Simulator& simulator_of(const DatasetOptions& dataset) {
    if (dataset.kind == "simulator") return look_up("simulator", simulators(), dataset.simulator);
    throw Error(
        fmt::format("c2st: the posterior of data of kind {} is not known; it takes a network trained on a "
                    "simulator",
                    dataset.kind));
}

constexpr const char* kC2stErrors =
    "one standard error, of five folds that share training points (Nadeau & Bengio 2003, section 3)";

/// Of a network without a condition, or with classes: its samples against as many fresh data, whose own labels they
/// have, so that the shares of the classes are no difference.
void add_against_data(Report& report, const PointSource& source, const MeasureOptions& options) {
    constexpr int64_t kEnergyPoints = 1000, kPermutations = 999;
    const Dataset test = test_examples(source.model, options, kDefaultPoints);
    const int64_t count = test.size();
    const uint64_t seed = uint64_t(options.seed);
    report.head["samples"] = count;
    report.head["errors"] = kC2stErrors;
    tell_condition(report, source.model, test.condition, options);
    const auto drawn = source.draw(test.condition, count, seed, "samples");
    const auto some = [&](const torch::Tensor& x) { return x.narrow(0, 0, std::min(count, kEnergyPoints)); };
    const EnergyTest energy = energy_test(some(drawn.x), some(test.examples), kPermutations, seed);
    Json row = {{"against", "test points"}};
    put(row, "c2st", classifier_two_sample_test(test.examples, drawn.x, seed));
    row["energy"] = energy.distance;
    row["p_value"] = energy.p_value;
    row["nfe"] = drawn.nfe;
    row["seconds"] = drawn.seconds;
    add(report, row, options);
}

/// Samples for the i-th observation against the exact posterior's; `seen`: the observation, one row.
Json row_of_posterior(const PointSource& source, const Simulator& simulator, const Condition& seen, int64_t i,
                      int64_t count, uint64_t seed) {
    const DataSpec& data = source.model.data;
    const auto exact = simulator.posterior(restored(seen.numbers, data.condition.numbers)[0], seed, count);
    const auto drawn =
        source.draw(seen.rows(torch::zeros({count}, torch::kInt64)), count, seed, fmt::format("observation {}", i + 1));
    Json row = {{"against", fmt::format("posterior {}", i + 1)}};
    put(row, "c2st", classifier_two_sample_test(exact, data.codec.decode(drawn.x), seed));
    row["nfe"] = drawn.nfe;
    row["seconds"] = drawn.seconds;
    return row;
}

/// Of a network whose condition is numbers: a row for each of several observations, and their mean.
void add_against_posteriors(Report& report, const PointSource& source, const MeasureOptions& options) {
    const Simulator& simulator = simulator_of(options.dataset);
    const int64_t count = options.num.value_or(kDefaultPoints), observations = options.observations.value_or(5);
    const Dataset test = in_terms_of(source.model.data, load_dataset(options.dataset, Split::kTest), "the data set");
    if (observations > test.size()) {
        throw Error(fmt::format("observations {}: there are {}", observations, test.size()));
    }
    report.head["samples"] = count;
    report.head["errors"] = kC2stErrors;
    double sum = 0, squares = 0;  // of values and of errors
    for (int64_t i = 0; i < observations; ++i) {
        const Json row = row_of_posterior(source, simulator, test.condition.rows(torch::tensor({i})), i, count,
                                          uint64_t(options.seed + i));
        sum += row["c2st"].get<double>();
        squares += std::pow(row["c2st" + kErrorSuffix].get<double>(), 2);
        add(report, row, options);
    }
    Json mean = {{"against", "all, mean"}};
    put(mean, "c2st", Estimate{sum / double(observations), std::sqrt(squares) / double(observations)});
    add(report, mean, options);
}

Report report_c2st(const Model& model, const MeasureOptions& options) {
    const PointSource source = only_source(model, options, "c2st");
    Report report{
        .head = {{"metric", "classifier two-sample test: share of points that a network tells right; 0.5 is ideal"}}};
    const bool is_posterior = !model.data.condition.numbers.empty();
    if (!is_posterior && options.observations) {
        throw Error("observations are of a network whose condition is numbers");
    }
    (is_posterior ? add_against_posteriors : add_against_data)(report, source, options);
    return report;
}

}  // namespace

Measure c2st_measure() {
    return {.about = "whether a classifier tells samples of points, or of posteriors, from exact ones",
            .run = report_c2st,
            .options = point_keys({"observations"})};
}

}  // namespace diffuse
