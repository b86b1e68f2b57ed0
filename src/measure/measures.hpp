#pragma once

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

/// Draws images from the same noise by each of options.samplings, and adds the rows of what `measure` says of them.
void add_samples(Report& report, const Model& model, const MeasureOptions& options, const MeasureSamples& measure);

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
