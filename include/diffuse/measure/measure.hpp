#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "diffuse/base/table.hpp"
#include "diffuse/plot/figure.hpp"
#include "diffuse/run/model.hpp"
#include "diffuse/run/sample_options.hpp"

/// Measures: what can be said of a model in numbers, by a table of them.
namespace diffuse {

/// What a measure found.
struct Report {
    nlohmann::ordered_json head;  ///< of all rows; "metric": what was measured
    /// Objects, whose keys are the table's columns; the standard error of a number NAME is NAME_se, here as in the
    /// head.
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    std::optional<Figure> figure = {};  ///< where it is not curves over what the rows vary in (`Measure::plotted`)
};

/// How likelihoods are computed, beside what the options of sampling say of grids.
struct NllOptions {
    int64_t ode_steps = 50, probes = 1;
    std::optional<double> max_ratio;  ///< see grid.hpp
    std::optional<double> tolerance;  ///< of dopri5, instead of ode_steps of heun
};
/// Those that the options of sampling have not.
Fields fields(NllOptions& options);

/// What is measured, and of what. Each measure takes notice of some (`Measure::options`).
struct MeasureOptions {
    std::optional<int64_t> num;  ///< examples, samples or trials; each measure has its own default
    int64_t seed = 0;            ///< random seed for all noise
    DatasetOptions dataset;      ///< the data that the model is of
    std::string fingerprint;     ///< of those that it was trained on (`fingerprint`), for a warning; empty: not known
    std::optional<double> label_dropout;  ///< at which it was trained (`TrainOptions`), where that is known
    /// How samples are drawn or examples encoded, a row for each: one or more, all of the measure's direction.
    std::vector<SampleOptions> samplings = {SampleOptions()};
    bool per_class = false;               ///< fid: rows for each class too
    std::optional<int64_t> observations;  ///< c2st: of a simulator's test split, a row for each
    std::vector<double> sigmas;           ///< fisher: noise levels sigma / alpha, a row for each
    NllOptions nll;
    std::string features, reference;  ///< features: files
    /// Called with each row as soon as it is known, so that a long table cut short is not lost.
    std::function<void(const nlohmann::ordered_json& row)> on_row = [](const auto&) {};
};
/// Those that are one number or file; of the others, samplings, per_class and sigmas, the command line has its own.
Fields fields(MeasureOptions& options);

/// A row of the table of measures.
struct Measure {
    std::string about;  ///< a line
    /// Throws Error for a model or options that it cannot be of, naming the option's key.
    std::function<Report(const Model& model, const MeasureOptions& options)> run;
    /// The keys of `MeasureOptions` ("data": its data set), `NllOptions` and `SampleOptions` that it takes notice of,
    /// and "plot" where its report can be drawn.
    std::set<std::string> options;
    std::vector<std::string> plotted = {};       ///< columns that make curves over what the rows vary in
    Direction direction = Direction::kSampling;  ///< of MeasureOptions::samplings
    bool of_model = true;                        ///< or of files alone
};
/// What `SampleOptions::classes` says for the classes of the test images in their own shares.
inline constexpr const char* kClassesOfData = "data";

const Table<Measure>& measures();

}  // namespace diffuse
