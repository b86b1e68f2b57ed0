#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/common.hpp"
#include "cli/options.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/measure/nll.hpp"
#include "diffuse/plot/figure.hpp"
#include "diffuse/run/sampling.hpp"

namespace diffuse::cli {

using Json = nlohmann::ordered_json;

struct EvalOptions {
    std::string checkpoint, data, metric = "fid";
    std::string features, reference;  ///< files
    SampleOptions sampling;           ///< all but the lists
    std::vector<std::string> solvers = {sampling.solver}, spacings = {sampling.spacing};
    std::vector<int64_t> steps, nfe;
    std::vector<double> guidance;
    std::vector<double> interval_ends;  ///< low and high of each, in turn
    std::optional<int64_t> num;
    int64_t seed = 0;
    NllOptions nll;
    bool per_class = false;
    std::vector<double> sigmas;
    std::optional<int64_t> observations;
    std::string plot;
    bool json = false;
    RuntimeOptions runtime;
};

/// A table whose rows are JSON objects: as it is, or as columns of text.
struct Report {
    Json head, rows = Json::array();
    std::optional<Figure> figure = {};  ///< what --plot draws, where it is not curves over what was varied

    /// Also told at once, so that a long table cut short is not lost.
    void add(const Json& row);
    Result result(bool as_json, const Files& files = {}) const;
};

/// Every solver, spacing, interval and scale of guidance and number of steps that was asked for. Throws Error, before
/// hours are spent, when one of them cannot be.
std::vector<SampleOptions> combinations(const EvalOptions& options, const Checkpoint& checkpoint, Direction direction);

/// `count` training examples (all, if there are fewer) drawn at random, with a warning where the network was trained on
/// other data.
Dataset some_training_examples(const Checkpoint& checkpoint, const Dataset& train, int64_t count);

/// The first test examples, in the checkpoint's columns: --num, or `by_default` of them where there are so many. Throws
/// Error where there are not --num.
Dataset test_examples(const EvalOptions& options, const Checkpoint& checkpoint, int64_t by_default);

/// Throws Error where the images are none that the classifier of MNIST could say anything of.
void require_digits(const Checkpoint& checkpoint, const std::string& metric);

/// Rows of what can be said of samples that were drawn of a condition.
using MeasureSamples = std::function<std::vector<Json>(const TimedSamples& drawn, const Condition& condition)>;

/// Draws samples from the same noise by each of `all`, and adds the rows of what `measure` says of them.
void add_samples(Report& report, const std::vector<SampleOptions>& all, const EvalOptions& options,
                 const Checkpoint& checkpoint, torch::Device device, const MeasureSamples& measure);

/// Images that fid and pr take, unless --num says otherwise.
inline constexpr int64_t kDefaultSamples = 1000;

/// Throws Error, before hours are spent, where the plot that was asked for could not be drawn. of_curves: it is one of
/// `figure_of`.
void check_plot(const EvalOptions& options, bool of_curves);

/// The curves of a table of samples: each of `columns` over the scale of guidance where there are several, else over
/// the network evaluations.
Figure figure_of(const Report& report, const EvalOptions& options, const std::vector<std::string>& columns);

Report report_fid(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device);
Report report_nll(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device);
/// Of two files, and no checkpoint.
Report report_features(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device);
/// Of points: how wrong the score is, and whether samples are of the right law and posteriors calibrated.
Report report_fisher(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device);
Report report_c2st(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device);
Report report_sbc(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device);
Report report_pr(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device);

}  // namespace diffuse::cli
