#pragma once

#include "diffuse/measure/estimate.hpp"
#include "diffuse/measure/measure.hpp"
#include "diffuse/nets/classifier.hpp"
#include "diffuse/run/sampling.hpp"

/// What the files of measures share.
namespace diffuse {

using Json = nlohmann::ordered_json;

/// The rows of the table, each in a file of its own.
Measure c2st_measure();
Measure features_measure();
Measure fid_measure();
Measure fisher_measure();
Measure nll_measure();
Measure pr_measure();
Measure roundtrip_measure();
Measure sbc_measure();

/// The keys of the options by which images are drawn, and these.
std::set<std::string> image_keys(const std::set<std::string>& more);
/// The same of points.
std::set<std::string> point_keys(const std::set<std::string>& more);

/// Puts a number under its name, and its standard error under NAME_se: null where there is none.
void put(Json& row, const std::string& name, const Estimate& estimate);
inline const std::string kErrorSuffix = "_se";

/// Says in the head what the network is told of each example: "condition". Throws Error, naming the measure, where that
/// is a branch that was never trained: no class at a label_dropout of 0, classes at one of 1.
void tell_condition(Report& report, const Model& model, const Condition& condition, const MeasureOptions& options);

/// Adds a row and tells of it.
void add(Report& report, const Json& row, const MeasureOptions& options);
/// What a row says of the way there, one of `all`: solver, spacing, steps and network evaluations, and whatever else is
/// not the same in all.
Json row_of(const SampleOptions& sampling, const std::vector<SampleOptions>& all, const Samples& result, int64_t steps);

/// Throws Error, naming the measure, where the data are none that the classifier of MNIST could say anything of.
void require_digits(const MeasureOptions& options, const std::string& measure);

/// The first test examples as the model sees them: options.num, or `by_default` of them where there are so many. Throws
/// Error where there are not options.num.
Dataset test_examples(const Model& model, const MeasureOptions& options, int64_t by_default);

/// Samples of images for fid and pr, where options.num does not say.
inline constexpr int64_t kDefaultSamples = 1000;
/// Points for c2st and fisher, likewise.
inline constexpr int64_t kDefaultPoints = 10'000;

/// What samples are held against: real images, and the classifier of MNIST in whose features they are compared. Warns
/// where the model was trained on others.
struct RealImages {
    RealImages(const Model& model, const MeasureOptions& options);

    int64_t count;  ///< samples that are to be drawn
    Dataset train, test;
    Dataset some;  ///< as many training images (all, if there are fewer), drawn at random
    Classifier classifier = Classifier::pretrained();

    std::string features() const;           ///< "the features of ..."
    std::string some_against_test() const;  ///< "1000 random training images against ..."
};

/// Rows of what can be said of samples that were drawn of a condition.
using MeasureSamples = std::function<std::vector<Json>(const TimedSamples& drawn, const Condition& condition)>;

/// Draws images from the same noise by each of options.samplings, and adds the rows of what `measure` says of them; in
/// the head, of which classes they are.
void add_samples(Report& report, const Model& model, const MeasureOptions& options, const RealImages& real,
                 const MeasureSamples& measure);

/// The labels of test images, in the network's numbers and without those that it does not know: as many as are asked
/// for, in the same shares, in a random order. int64 [count]. Throws Error where there are none.
torch::Tensor labels_in_shares(const ConditionSpec& known, const Dataset& test, int64_t count);

/// A model with the one way of drawing points from it.
struct PointSource {
    Model model;
    SampleOptions sampling;
    std::optional<Model> guide;

    /// `count` samples, with a progress line called `what`; condition: of each, where it is defined.
    TimedSamples draw(const Condition& condition, int64_t count, uint64_t seed, const std::string& what) const;
};
/// Throws Error, naming the measure, where the model draws no points and where options.samplings are several.
PointSource only_source(const Model& model, const MeasureOptions& options, const std::string& measure);

}  // namespace diffuse
