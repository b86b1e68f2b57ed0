#include <fmt/format.h>
#include <fmt/ranges.h>

#include "diffuse/base/error.hpp"
#include "diffuse/measure/frechet.hpp"
#include "diffuse/nets/classifier.hpp"
#include "measure/measures.hpp"

namespace diffuse {
namespace {

/// "0.093 0.114 ...": of each class, among the most probable ones.
std::string class_shares(const torch::Tensor& probabilities) {
    const auto counts = torch::bincount(probabilities.argmax(1), {}, probabilities.size(1)).to(torch::kFloat64) /
                        double(probabilities.size(0));
    std::vector<std::string> shares;
    for (int64_t i = 0; i < counts.size(0); ++i) shares.push_back(fmt::format("{:.3f}", counts[i].item<double>()));
    return fmt::format("{}", fmt::join(shares, " "));
}

double share_above_09(const torch::Tensor& probabilities) {
    return (std::get<0>(probabilities.max(1)) > 0.9).to(torch::kFloat64).mean().item<double>();
}

/// Of the images, those that the classifier takes for what they were to show.
double share_as_asked(const torch::Tensor& probabilities, const torch::Tensor& asked) {
    return probabilities.argmax(1).eq(asked).to(torch::kFloat64).mean().item<double>();
}

/// The real images of one class, or of all, and the distance of some training images of it to the test images.
struct RealImages {
    std::optional<int64_t> label;
    Gaussian test;
    double floor = 0;

    /// The indices of those of its class among examples of such labels.
    torch::Tensor among(const torch::Tensor& labels) const { return torch::nonzero(labels.eq(*label)).flatten(); }
};

/// The distance's other end, the test images, and the floor: that of `count` real training images.
struct FidReference {
    Classifier classifier = Classifier::pretrained();
    RealImages all;
    std::vector<RealImages> classes;
    Report report;  ///< without rows

    FidReference(const Model& model, const MeasureOptions& options) {
        const int64_t count = options.num.value_or(kDefaultSamples);
        const Dataset train = load_dataset(options.dataset, Split::kTrain),
                      test = load_dataset(options.dataset, Split::kTest);
        if (options.per_class) require_classes(test);
        const Dataset some = some_training_examples(model, options, train, count);
        const auto test_features = classifier.classify(to_signed(test.examples)).features;
        const auto real = classifier.classify(to_signed(some.examples));
        all = {.test = fit_gaussian(test_features)};
        all.floor = frechet_distance(fit_gaussian(real.features), all.test);
        if (options.per_class) {
            add_classes(test_features, test.condition.classes, real.features, some.condition.classes);
        }
        report.head["metric"] = fmt::format(
            "Frechet distance in the features of {}, a classifier of MNIST (accuracy {:.2f}%); not Inception FID",
            kClassifierName, 100 * classifier.test_accuracy());
        report.head["samples"] = count;
        report.head["floor"] = all.floor;
        report.head["floor_is"] =
            fmt::format("{} random training images against the {} test images", some.size(), test.size());
        report.head["share_above_0.9_real"] = share_above_09(real.probabilities);
    }

    /// What is said of samples: of all, and of each class where classes are asked for.
    std::vector<Json> rows(const TimedSamples& drawn, const Condition& condition) const {
        const auto classified = classifier.classify(to_signed(to_bytes(drawn.x)));
        std::vector<Json> result = {row(all, classified, condition.classes)};
        for (const auto& real : classes) {
            const auto among = real.among(condition.classes);
            if (among.size(0) < 2) continue;  // not among those asked for
            const auto chosen = [&](const torch::Tensor& x) { return x.index_select(0, among); };
            result.push_back(
                row(real, {chosen(classified.features), chosen(classified.probabilities)}, chosen(condition.classes)));
        }
        result.front()["seconds"] = drawn.seconds;
        result.front()["class_shares"] = class_shares(classified.probabilities);
        return result;
    }

private:
    /// What is said of the samples of one class, or of all.
    Json row(const RealImages& real, const Classification& drawn, const torch::Tensor& asked) const {
        Json row;
        if (!classes.empty()) row["class"] = real.label ? std::to_string(*real.label) : "all";
        row["fid"] = frechet_distance(fit_gaussian(drawn.features), real.test);
        if (!classes.empty()) row["floor"] = real.floor;
        row["above_0.9"] = share_above_09(drawn.probabilities);
        if (asked.defined()) row["as_asked"] = share_as_asked(drawn.probabilities, asked);
        return row;
    }
    static void require_classes(const Dataset& test) {
        const torch::Tensor& labels = test.condition.classes;
        if (!labels.defined()) throw Error("per_class: there are no labels beside the test images");
        const auto counts = torch::bincount(labels, {}, test.spec.condition.classes.count);
        if (counts.min().item<int64_t>() < 2) throw Error("per_class: a class has fewer than two test images");
    }
    void add_classes(const torch::Tensor& test_features, const torch::Tensor& test_labels,
                     const torch::Tensor& train_features, const torch::Tensor& train_labels) {
        const int64_t count = test_labels.max().item<int64_t>() + 1;
        for (int64_t label = 0; label < count; ++label) {
            RealImages real{.label = label};
            real.test = fit_gaussian(test_features.index_select(0, real.among(test_labels)));
            real.floor =
                frechet_distance(fit_gaussian(train_features.index_select(0, real.among(train_labels))), real.test);
            classes.push_back(std::move(real));
        }
    }
};

/// Throws Error where rows by class could not be had.
void check_per_class(const Model& model, const MeasureOptions& options) {
    if (!options.per_class) return;
    const ConditionSpec& known = model.data.condition;
    if (known.cycle(options.samplings.front().classes).empty()) throw Error("per_class: the samples are of no class");
    const int64_t least = 20 * known.classes.count;  // some of each, for the floor
    if (options.num.value_or(kDefaultSamples) < least) {
        throw Error(fmt::format("per_class needs a num of at least {}", least));
    }
}

Report report_fid(const Model& model, const MeasureOptions& options) {
    require_digits(options, "fid");
    check_per_class(model, options);
    const FidReference reference(model, options);
    Report report = reference.report;
    add_samples(report, model, options, [&](const TimedSamples& drawn, const Condition& condition) {
        return reference.rows(drawn, condition);
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
