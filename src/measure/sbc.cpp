#include <fmt/format.h>

#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/measure/two_sample.hpp"
#include "measure/measures.hpp"

namespace diffuse {
namespace {

constexpr int64_t kDraws = 99, kRankBins = 20, kDefaultTrials = 500;
constexpr int64_t kLeastTrials = 5 * kRankBins;  // see RankTest

/// The ranks of true values among posterior samples: int64 [trials, D].
torch::Tensor ranks_among_samples(const PointSource& source, const Dataset& truths, uint64_t seed) {
    const int64_t trials = truths.size();
    const auto each = torch::arange(trials).repeat_interleave(kDraws);
    const auto drawn = source.draw(truths.condition.rows(each), trials * kDraws, seed, "posteriors");
    return (drawn.x.view({trials, kDraws, -1}) < truths.examples.unsqueeze(1)).sum(1);
}

/// The histogram of one column's ranks.
Curve rank_histogram(const Json& row) {
    Curve curve{.name = row["column"].get<std::string>()};
    for (const auto& count : row["counts"]) {
        curve.x.push_back((double(curve.x.size()) + 0.5) / double(kRankBins));
        curve.y.push_back(count.get<double>());
    }
    return curve;
}

/// The histograms of a table of ranks, and where those of right posteriors lie.
Figure figure_of_ranks(const Json& rows, int64_t trials) {
    const double mean = double(trials) / double(kRankBins);
    Panel panel{"rank / number of samples", "trials", {}};
    for (const auto& row : rows) panel.curves.push_back(rank_histogram(row));
    const double spread = 2 * std::sqrt(mean * (1 - 1 / double(kRankBins)));
    for (const double level : {mean - spread, mean + spread}) {
        panel.curves.push_back({level < mean ? "uniform, two s.e." : "", {0, 1}, {level, level}, Mark::kDashed});
    }
    return {"Ranks of true values among " + std::to_string(kDraws) + " posterior samples", {panel}};
}

/// The p-value only where enough trials make it one.
Json row_of_ranks(const std::string& column, const torch::Tensor& ranks) {
    const RankTest found = rank_test(ranks, kDraws, kRankBins);
    const Json p_value = ranks.size(0) >= kLeastTrials ? Json(found.p_value) : Json();
    return {{"column", column}, {"chi_square", found.chi_square}, {"p_value", p_value}, {"counts", found.counts}};
}

Report report_sbc(const Model& model, const MeasureOptions& options) {
    if (model.data.condition.numbers.empty()) throw Error("sbc is of a network whose condition is numbers");
    const PointSource source = only_source(model, options, "sbc");
    const Dataset test = test_examples(model, options, kDefaultTrials);
    const auto ranks = ranks_among_samples(source, test, uint64_t(options.seed));
    Report report{.head = {{"metric",
                            "simulation-based calibration: ranks of true values among posterior samples, which are "
                            "uniform where the posteriors are right; p_value by chi-square"},
                           {"trials", test.size()},
                           {"draws", kDraws},
                           {"bins", kRankBins}}};
    if (test.size() < kLeastTrials) {
        report.head["verdict"] = fmt::format("none: a p_value takes {} trials or more", kLeastTrials);
    }
    const Columns& columns = model.data.codec.columns;
    for (size_t i = 0; i < columns.size(); ++i) {
        add(report, row_of_ranks(columns[i].name, ranks.select(1, int64_t(i)).contiguous()), options);
    }
    report.figure = figure_of_ranks(report.rows, test.size());
    return report;
}

}  // namespace

Measure sbc_measure() {
    return {.about = "whether posteriors are calibrated, by the ranks of true values among their samples",
            .run = report_sbc,
            .options = point_keys({"plot"})};
}

}  // namespace diffuse
