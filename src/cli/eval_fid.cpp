#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/common.hpp"
#include "cli/eval.hpp"
#include "diffuse/measure/frechet.hpp"
#include "diffuse/nets/classifier.hpp"

namespace diffuse::cli {
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

    FidReference(const Checkpoint& checkpoint, const DatasetOptions& data, int64_t count, bool per_class) {
        const Dataset train = load_dataset(data, Split::kTrain), test = load_dataset(data, Split::kTest);
        if (per_class) require_classes(test);
        const Dataset some = some_training_examples(checkpoint, train, count);
        const auto test_features = classifier.classify(to_signed(test.examples)).features;
        const auto real = classifier.classify(to_signed(some.examples));
        all = {.test = fit_gaussian(test_features)};
        all.floor = frechet_distance(fit_gaussian(real.features), all.test);
        if (per_class) add_classes(test_features, test.condition.classes, real.features, some.condition.classes);
        report.head["metric"] = fmt::format(
            "Frechet distance in the features of {}, a classifier of MNIST (accuracy {:.2f}%); not Inception FID",
            kClassifierName, 100 * classifier.test_accuracy());
        report.head["samples"] = count;
        report.head["floor"] = all.floor;
        report.head["floor_is"] =
            fmt::format("{} random training images against the {} test images", some.size(), test.size());
        report.head["share_above_0.9_real"] = share_above_09(real.probabilities);
    }

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

private:
    static void require_classes(const Dataset& test) {
        const torch::Tensor& labels = test.condition.classes;
        if (!labels.defined()) throw Error("--per-class: there are no labels beside the test images");
        const auto counts = torch::bincount(labels, {}, test.spec.condition.classes.count);
        if (counts.min().item<int64_t>() < 2) throw Error("--per-class: a class has fewer than two test images");
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
void check_per_class(const EvalOptions& options, const Checkpoint& checkpoint, int64_t count) {
    if (!options.per_class) return;
    const ConditionSpec& known = checkpoint.data.condition;
    if (known.cycle(options.sampling.classes).empty()) {
        throw Error("--per-class: the samples are of no class");
    }
    const int64_t least = 20 * known.classes.count;  // some of each, for the floor
    if (count < least) throw Error(fmt::format("--per-class needs a --num of at least {}", least));
}

}  // namespace

Report report_fid(const EvalOptions& options, const Checkpoint& checkpoint, torch::Device device) {
    require_digits(checkpoint, "fid");
    const int64_t count = options.num.value_or(kDefaultSamples);
    const auto all = combinations(options, checkpoint, Direction::kSampling);
    check_per_class(options, checkpoint, count);
    auto reference = FidReference(checkpoint, data_of(checkpoint, options.data), count, options.per_class);
    add_samples(
        reference.report, all, options, checkpoint, device, [&](const TimedSamples& drawn, const Condition& condition) {
            const auto classified = reference.classifier.classify(to_signed(to_bytes(drawn.x)));
            std::vector<Json> rows = {reference.row(reference.all, classified, condition.classes)};
            for (const auto& real : reference.classes) {
                const auto of_class = real.among(condition.classes);
                if (of_class.size(0) < 2) continue;  // not among those asked for
                rows.push_back(reference.row(
                    real,
                    {classified.features.index_select(0, of_class), classified.probabilities.index_select(0, of_class)},
                    condition.classes.index_select(0, of_class)));
            }
            rows.front()["seconds"] = drawn.seconds;
            rows.front()["class_shares"] = class_shares(classified.probabilities);
            return rows;
        });
    return reference.report;
}

}  // namespace diffuse::cli
