#include <fmt/format.h>

#include "diffuse/base/error.hpp"
#include "diffuse/measure/frechet.hpp"
#include "measure/measures.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

/// Of each class, among the most probable ones.
std::vector<double> class_shares(const Tensor& probabilities) {
    return numbers(torch::bincount(probabilities.argmax(1), {}, probabilities.size(1)).to(torch::kFloat64) /
                   double(probabilities.size(0)));
}

Estimate share_of(const Tensor& those) {
    return share_estimate(those.to(torch::kFloat64).mean().item<double>(), those.size(0));
}

Estimate share_above_09(const Tensor& probabilities) { return share_of(std::get<0>(probabilities.max(1)) > 0.9); }

/// Of the images, those that the classifier takes for what they were to show.
Estimate share_as_asked(const Tensor& probabilities, const Tensor& asked) {
    return share_of(probabilities.argmax(1).eq(asked));
}

/// Of what is said of examples with such labels, that of one class; all of it where no class is meant.
Tensor of_class(const Tensor& said, const Tensor& labels, const std::optional<int64_t>& label) {
    return label ? said.index_select(0, torch::nonzero(labels.eq(*label)).flatten()) : said;
}

/// The test images of one class, or of all, and the distance of some training images to them.
struct RealClass {
    std::optional<int64_t> label;
    Gaussian test;
    Estimate floor;
};

/// All together, and then each class where classes are asked for.
std::vector<RealClass> real_classes(const RealImages& real, const Tensor& test_features, const Tensor& some_features,
                                    bool per_class) {
    const Tensor &test_labels = real.test.condition.classes, &some_labels = real.some.condition.classes;
    std::vector<std::optional<int64_t>> labels = {std::nullopt};
    for (int64_t label = 0; per_class && label <= test_labels.max().item<int64_t>(); ++label) labels.push_back(label);
    std::vector<RealClass> classes;
    for (const auto& label : labels) {
        const Gaussian test = fit_gaussian(of_class(test_features, test_labels, label));
        classes.push_back({label, test, frechet_estimate(of_class(some_features, some_labels, label), test)});
    }
    return classes;
}

/// What is said of samples, a row for each class of which there are some.
std::vector<Json> rows_by_class(const std::vector<RealClass>& classes, const Classification& drawn,
                                const Tensor& asked) {
    const bool per_class = classes.size() > 1;
    std::vector<Json> rows;
    for (const auto& [label, test, floor] : classes) {
        const Tensor features = of_class(drawn.features, asked, label);
        const Tensor probabilities = of_class(drawn.probabilities, asked, label);
        if (features.size(0) < 2) continue;
        Json row;
        if (per_class) row["class"] = label ? std::to_string(*label) : "all";
        put(row, "fid", frechet_estimate(features, test));
        if (per_class) put(row, "floor", floor);
        put(row, "above_0.9", share_above_09(probabilities));
        if (asked.defined()) put(row, "as_asked", share_as_asked(probabilities, of_class(asked, asked, label)));
        rows.push_back(row);
    }
    return rows;
}

/// Throws Error where rows by class could not be had.
void check_per_class(const Model& model, const MeasureOptions& options) {
    const ConditionSpec& known = model.data.condition;
    const std::string& classes = options.samplings.front().classes;
    if (classes != kClassesOfData && known.cycle(classes).empty()) {
        throw Error("per_class: the samples are of no class");
    }
    const int64_t least = 20 * known.classes.count;  // some of each, for the floor
    if (options.num.value_or(kDefaultSamples) < least) {
        throw Error(fmt::format("per_class needs a num of at least {}", least));
    }
}

void require_classes(const Dataset& test) {
    const Tensor& labels = test.condition.classes;
    if (!labels.defined()) throw Error("per_class: there are no labels beside the test images");
    const auto counts = torch::bincount(labels, {}, test.spec.condition.classes.count);
    if (counts.min().item<int64_t>() < 2) throw Error("per_class: a class has fewer than two test images");
}

Report report_fid(const Model& model, const MeasureOptions& options) {
    require_digits(options, "fid");
    if (options.per_class) check_per_class(model, options);
    const RealImages real(model, options);
    if (options.per_class) require_classes(real.test);
    const auto classify = [&](const Tensor& bytes) { return real.classifier.classify(to_signed(bytes)); };
    const Tensor test_features = classify(real.test.examples).features;
    const Classification some = classify(real.some.examples);
    const auto classes = real_classes(real, test_features, some.features, options.per_class);
    Report report{.head = {{"metric", fmt::format("Frechet distance in {}; not Inception FID", real.features())},
                           {"samples", real.count}}};
    put(report.head, "floor", classes.front().floor);
    report.head["floor_is"] = real.some_against_test();
    put(report.head, "share_above_0.9_real", share_above_09(some.probabilities));
    report.head["errors"] =
        "one standard error over draws of samples, beside the same test images: jackknife over 20 groups (fid, floor), "
        "binomial (shares)";
    add_samples(report, model, options, real, [&](const TimedSamples& drawn, const Condition& condition) {
        const Classification found = classify(to_bytes(drawn.x));
        auto rows = rows_by_class(classes, found, condition.classes);
        rows.front()["seconds"] = drawn.seconds;
        rows.front()["class_shares"] = class_shares(found.probabilities);
        return rows;
    });
    return report;
}

}  // namespace

Measure fid_measure() {
    return {.about = "Frechet distance of samples to the test images, in the features of a classifier of MNIST",
            .run = report_fid,
            .options = image_keys({"per_class", "plot"}),
            .plotted = {"fid", "as_asked"}};
}

}  // namespace diffuse
