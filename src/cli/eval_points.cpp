#include <fmt/format.h>

#include <cmath>

#include "cli/eval.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/data/simulators.hpp"
#include "diffuse/data/toys.hpp"
#include "diffuse/diffusion/analytic.hpp"
#include "diffuse/measure/fisher.hpp"
#include "diffuse/measure/two_sample.hpp"

namespace diffuse::cli {
namespace {

constexpr int64_t kMeasuredPoints = 10'000, kDefaultObservations = 5;

void require_points(const Checkpoint& checkpoint, const std::string& metric) {
    if (checkpoint.data.shape.points) return;
    throw Error(fmt::format("--metric {} is of points, and this network draws pictures", metric));
}

/// Samples, one for each row of the condition where there is one: as the network's data, float32 [N, D].
TimedSamples draw(const SampleOptions& sampling, const Model& model, const Condition& condition, int64_t count,
                  uint64_t seed, const std::string& what) {
    check_guidance(sampling, condition);
    Sampler sampler = make_sampler(sampling, model, load_guide(sampling, model.device));
    sampler.condition = condition;
    sampler.seed = seed;
    return run_with_progress(what + ": step", sampler, sampling_noise(seed, 0, count, model.data.shape.sizes(), 0));
}

/// The only way of sampling that was asked for.
SampleOptions only_one(const EvalOptions& options, const Checkpoint& checkpoint) {
    const auto all = combinations(options, checkpoint, Direction::kSampling);
    if (all.size() == 1) return all.front();
    throw Error(fmt::format("--metric {} takes one way of sampling; give one solver, spacing and number of steps",
                            options.metric));
}

const Simulator& simulator_of(const Checkpoint& checkpoint, const std::string& metric) {
    if (checkpoint.config.dataset.kind == "simulator") {
        return look_up("simulator", simulators(), checkpoint.config.dataset.simulator);
    }
    throw Error(
        fmt::format("--metric {}: the posterior of data of kind {} is not known; it takes a network trained on "
                    "a simulator",
                    metric, checkpoint.config.dataset.kind));
}

/// Of a network without a condition, or with classes: its samples against as many fresh data.
void add_against_data(Report& report, const EvalOptions& options, const Checkpoint& checkpoint,
                      const SampleOptions& sampling, const Model& model) {
    constexpr int64_t kEnergyPoints = 1000, kPermutations = 999;
    const Dataset test = test_examples(options, checkpoint, kMeasuredPoints);
    const int64_t count = test.size();
    report.head["samples"] = count;
    const auto drawn = draw(sampling, model, model.data.condition.of_classes(sampling.classes, count), count,
                            uint64_t(options.seed), "samples");
    const auto some = [&](const torch::Tensor& x) { return x.narrow(0, 0, std::min(count, kEnergyPoints)); };
    const EnergyTest energy = energy_test(some(drawn.x), some(test.examples), kPermutations, uint64_t(options.seed));
    Json row;
    row["against"] = "test points";
    row["c2st"] = classifier_two_sample_test(test.examples, drawn.x, uint64_t(options.seed));
    row["energy"] = energy.distance;
    row["p_value"] = energy.p_value;
    row["nfe"] = drawn.nfe;
    row["seconds"] = drawn.seconds;
    report.add(row);
}

/// Of a conditional one: for each of several observations, its samples against the exact posterior's.
void add_against_posteriors(Report& report, const EvalOptions& options, const Checkpoint& checkpoint,
                            const SampleOptions& sampling, const Model& model) {
    const Simulator& simulator = simulator_of(checkpoint, options.metric);
    const int64_t count = options.num.value_or(kMeasuredPoints);
    const Dataset test =
        in_terms_of(checkpoint.data, load_dataset(checkpoint.config.dataset, Split::kTest), "the data set");
    const int64_t observations = options.observations.value_or(kDefaultObservations);
    if (observations > test.size()) {
        throw Error(fmt::format("--observations {}: there are {}", observations, test.size()));
    }
    report.head["samples"] = count;
    double sum = 0;
    for (int64_t i = 0; i < observations; ++i) {
        const uint64_t seed = uint64_t(options.seed + i);
        const Condition seen = test.condition.rows(torch::tensor({i}));
        const auto y = restored(seen.numbers, model.data.condition.numbers)[0];
        const auto exact = simulator.posterior(y, seed, count);
        const auto drawn = draw(sampling, model, seen.rows(torch::zeros({count}, torch::kInt64)), count, seed,
                                fmt::format("observation {}", i + 1));
        Json row;
        row["against"] = fmt::format("posterior {}", i + 1);
        row["c2st"] = classifier_two_sample_test(exact, model.data.codec.decode(drawn.x), seed);
        row["nfe"] = drawn.nfe;
        row["seconds"] = drawn.seconds;
        sum += row["c2st"].get<double>();
        report.add(row);
    }
    Json mean;
    mean["against"] = "all, mean";
    mean["c2st"] = sum / double(observations);
    report.add(mean);
}

/// Curves of columns over another, both by their names in the rows.
Panel panel_of(const Report& report, const std::string& x, const std::vector<std::string>& columns) {
    Panel panel{x, columns.front(), {}, /*log_x=*/true, /*log_y=*/true};
    for (const auto& column : columns) {
        Curve curve{.name = column};
        for (const auto& row : report.rows) {
            curve.x.push_back(row[x].get<double>());
            curve.y.push_back(row[column].get<double>());
        }
        panel.curves.push_back(curve);
    }
    return panel;
}

/// The histograms of a table of ranks, and where those of right posteriors lie.
Figure figure_of_ranks(const Report& report, int64_t trials) {
    const std::string draws = report.head["draws"].dump();
    const double bins = report.head["bins"].get<double>(), mean = double(trials) / bins;
    Panel panel{"rank / number of samples", "trials", {}};
    for (const auto& row : report.rows) {
        Curve curve{.name = row["column"].get<std::string>()};
        for (const auto& count : row["counts"]) {
            curve.x.push_back((double(curve.x.size()) + 0.5) / bins);
            curve.y.push_back(count.get<double>());
        }
        panel.curves.push_back(curve);
    }
    const double spread = 2 * std::sqrt(mean * (1 - 1 / bins));
    for (const double level : {mean - spread, mean + spread}) {
        panel.curves.push_back({level < mean ? "uniform, two s.e." : "", {0, 1}, {level, level}, Mark::kDashed});
    }
    return {"Ranks of true values among " + draws + " posterior samples", {panel}};
}

/// The levels that were asked for, or eight from 0.05 to 10.
std::vector<double> sigmas_of(const EvalOptions& options) {
    if (!options.sigmas.empty()) return options.sigmas;
    std::vector<double> all;
    for (int i = 0; i < 8; ++i) all.push_back(std::round(0.05 * std::pow(200, i / 7.0) * 1000) / 1000);
    return all;
}

}  // namespace

Report report_fisher(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device) {
    const auto mixture = known_mixture(checkpoint.config.dataset);
    if (!mixture) {
        throw Error(fmt::format("--metric fisher: the score of data of kind {} is not known; it is of {}",
                                checkpoint.config.dataset.kind,
                                "eight-gaussians, fractal, mixture, two-moons, swiss-roll and rings"));
    }
    const Dataset test = test_examples(options, checkpoint, kMeasuredPoints);
    const Model model = make_model(checkpoint, options.sampling.weights, device);
    const Denoiser learned = [at = model.denoiser({}, {}), device](const torch::Tensor& x, const NoiseLevel& level) {
        const auto [x0, eps] = at(x.to(device), level);
        return Prediction{x0.cpu(), eps.cpu()};
    };
    Report report;
    report.head["metric"] =
        "Fisher divergence E|s - s*|^2 of the learned score from the exact one, of noisy data at sigma, alpha = 1; "
        "floor: of denoising score matching";
    report.head["points"] = test.size();
    for (const double sigma : sigmas_of(options)) {
        const auto found =
            fisher_divergence(learned, mixture_denoiser(*mixture), test.examples, sigma, uint64_t(options.seed));
        Json row;
        row["sigma"] = sigma;
        row["fisher"] = found.divergence;
        row["error"] = found.standard_error;
        row["exact_square"] = found.exact_square;
        row["relative"] = found.divergence / found.exact_square;
        row["floor"] = found.floor;
        report.add(row);
    }
    report.figure =
        Figure{"Error of the learned score",
               {panel_of(report, "sigma", {"fisher", "exact_square"}), panel_of(report, "sigma", {"relative"})}};
    return report;
}

Report report_c2st(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device) {
    require_points(checkpoint, "c2st");
    const SampleOptions sampling = only_one(options, checkpoint);
    const Model model = make_model(checkpoint, sampling.weights, device);
    Report report;
    report.head["metric"] = "classifier two-sample test: share of points that a network tells right; 0.5 is ideal";
    const bool is_posterior = !model.data.condition.numbers.empty();
    if (!is_posterior && options.observations) {
        throw Error("--observations are of a network whose condition is numbers");
    }
    (is_posterior ? add_against_posteriors : add_against_data)(report, options, checkpoint, sampling, model);
    return report;
}

Report report_sbc(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device) {
    constexpr int64_t kDraws = 99, kBins = 20, kDefaultTrials = 500;
    require_points(checkpoint, "sbc");
    if (checkpoint.data.condition.numbers.empty()) {
        throw Error("--metric sbc is of a network whose condition is numbers");
    }
    const SampleOptions sampling = only_one(options, checkpoint);
    const Model model = make_model(checkpoint, sampling.weights, device);
    const Dataset test = test_examples(options, checkpoint, kDefaultTrials);
    const int64_t trials = test.size();
    const auto each = torch::arange(trials).repeat_interleave(kDraws);
    const auto drawn =
        draw(sampling, model, test.condition.rows(each), trials * kDraws, uint64_t(options.seed), "posteriors");
    const auto samples = drawn.x.view({trials, kDraws, -1});
    const auto ranks = (samples < test.examples.unsqueeze(1)).sum(1);
    Report report;
    report.head["metric"] =
        "simulation-based calibration: ranks of true values among posterior samples, which are uniform where the "
        "posteriors are right; p_value by chi-square";
    report.head["trials"] = trials;
    report.head["draws"] = kDraws;
    report.head["bins"] = kBins;
    const Columns& columns = checkpoint.data.codec.columns;
    for (size_t i = 0; i < columns.size(); ++i) {
        const RankTest found = rank_test(ranks.select(1, int64_t(i)).contiguous(), kDraws, kBins);
        Json row;
        row["column"] = columns[i].name;
        row["chi_square"] = found.chi_square;
        row["p_value"] = found.p_value;
        row["counts"] = found.counts;
        report.add(row);
    }
    report.figure = figure_of_ranks(report, trials);
    return report;
}

}  // namespace diffuse::cli
