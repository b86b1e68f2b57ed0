#include "measure/measures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/train/batch.hpp"

namespace diffuse {

namespace {

Condition classes_to_draw(const SampleOptions& sampling, const ConditionSpec& known, const Dataset& test,
                          int64_t count) {
    if (sampling.classes != kClassesOfData || known.classes.count == 0) {
        return known.of_classes(sampling.classes, count);
    }
    return {.classes = labels_in_shares(known, test, count)};
}

/// Of which classes samples are, and in which shares.
std::string shares_words(const std::string& classes) {
    if (classes == kClassesOfData) return "in the shares of the test images";
    if (classes == "none") return "none: the network without classes (unconditional)";
    const std::string which = classes == "all" ? "each" : classes;
    return fmt::format("equally many of {}, whatever the shares of the test images (class data: in these)", which);
}

Json values_of(SampleOptions sampling) { return to_json(fields(sampling)); }

/// "0.3,3": where guidance holds; "-" where there is none.
std::string interval_words(const SampleOptions& sampling) {
    if (sampling.guidance == 1) return "-";
    if (!sampling.guidance_interval) return "all";
    return fmt::format("{:g},{:g}", sampling.guidance_interval->first, sampling.guidance_interval->second);
}

Sampler sampler_of(const SampleOptions& sampling, const Model& model, const std::optional<Model>& guide,
                   const Condition& condition, uint64_t seed) {
    Sampler sampler = make_sampler(sampling, model, guide);
    check_guidance(sampling, condition);
    sampler.condition = condition;
    sampler.seed = seed;
    return sampler;
}

/// The guide of the rows that have one, which is the same in all.
std::optional<Model> guide_of(const std::vector<SampleOptions>& samplings, torch::Device device) {
    const auto needs_one = std::ranges::find_if(samplings, [](const auto& one) { return one.guidance != 1; });
    return needs_one == samplings.end() ? std::nullopt : load_guide(*needs_one, device);
}

}  // namespace

torch::Tensor labels_in_shares(const ConditionSpec& known, const Dataset& test, int64_t count) {
    const torch::Tensor& labels = test.condition.classes;
    if (!labels.defined()) throw Error("sample.class data: there are no labels beside the test images");
    const auto own = known.renumbered(labels, test.spec.condition.classes);
    const auto sorted = std::get<0>(own.masked_select(own < known.classes.count).sort());
    if (sorted.size(0) == 0) throw Error("sample.class data: the network knows no class of the test images");
    const double each = double(sorted.size(0)) / double(count);
    const auto places = ((torch::arange(count, torch::kFloat64) + 0.5) * each).to(torch::kInt64);
    return sorted.index_select(0, places).index_select(0, DataOrder(/*seed=*/0, count).indices(0, count));
}

std::set<std::string> image_keys(const std::set<std::string>& more) {
    std::set<std::string> keys = {"num", "seed", "data", "vary"};
    SampleOptions sampling;
    for (const auto& field : fields(sampling)) keys.insert(field.key);
    keys.insert(more.begin(), more.end());
    return keys;
}

std::set<std::string> point_keys(const std::set<std::string>& more) {
    std::set<std::string> keys = image_keys(more);
    for (const std::string key : {"clip_x0", "threshold", "class", "negative_class"}) keys.erase(key);
    return keys;
}

void put(Json& row, const std::string& name, const Estimate& estimate) {
    row[name] = estimate.value;
    row[name + kErrorSuffix] = std::isfinite(estimate.error) ? Json(estimate.error) : Json();
}

void tell_condition(Report& report, const Model& model, const Condition& condition, const MeasureOptions& options) {
    const ConditionSpec& known = model.data.condition;
    const std::string examples = "the test " + noun(model.data.shape) + "s";
    if (!known.numbers.empty()) report.head["condition"] = "the numbers beside " + examples;
    if (known.classes.count == 0) return;
    const torch::Tensor& labels = condition.classes;
    const bool unknown = labels.defined() && labels.eq(known.classes.count).any().item<bool>();
    if (options.label_dropout == 0.0 && (unknown || !labels.defined())) {
        throw Error(
            "this measures the network without a class (unconditional), which was never trained: train.label_dropout "
            "is 0");
    }
    if (options.label_dropout == 1.0 && labels.defined()) {
        throw Error("this measures the network with classes, which were never trained: train.label_dropout is 1");
    }
    report.head["condition"] = !labels.defined() ? "none: the network without classes (unconditional)"
                               : unknown ? "the labels of " + examples + "; none for those that it does not know"
                                         : "the labels of " + examples;
}

void add(Report& report, const Json& row, const MeasureOptions& options) {
    report.rows.push_back(row);
    options.on_row(row);
}

Json row_of(const SampleOptions& sampling, const std::vector<SampleOptions>& all, const Samples& result,
            int64_t steps) {
    static const std::set<std::string> told = {"solver",   "spacing",           "steps", "nfe",
                                               "guidance", "guidance_interval", "batch"};
    Json row = {
        {"solver", sampling.solver}, {"spacing", sampling.spacing_name()}, {"steps", steps}, {"nfe", result.nfe}};
    const Json own = values_of(sampling);
    for (const auto& [key, value] : own.items()) {
        const auto differs = [&, &name = key, &mine = value](const SampleOptions& other) {
            const Json values = values_of(other);
            return !values.contains(name) || values[name] != mine;
        };
        if (!told.contains(key) && std::ranges::any_of(all, differs)) row[key] = value.is_null() ? Json("-") : value;
    }
    return row;
}

void require_digits(const MeasureOptions& options, const std::string& measure) {
    const std::string& kind = options.dataset.kind;
    if (kind == "mnist" || kind == "digits") return;
    throw Error(
        fmt::format("{} takes the features of a classifier of MNIST, which says nothing of data of kind {}; "
                    "take features of your own, from files, by the measure features",
                    measure, kind));
}

Dataset test_examples(const Model& model, const MeasureOptions& options, int64_t by_default) {
    const Dataset test = in_terms_of(model.data, load_dataset(options.dataset, Split::kTest), "the data set");
    const int64_t count = options.num.value_or(std::min(by_default, test.size()));
    if (count > test.size()) {
        throw Error(fmt::format("num {}: there are {} test {}s", count, test.size(), noun(test.spec.shape)));
    }
    return test.part(0, count);
}

RealImages::RealImages(const Model& model, const MeasureOptions& options)
    : count(options.num.value_or(kDefaultSamples)),
      train(load_dataset(options.dataset, Split::kTrain)),
      test(load_dataset(options.dataset, Split::kTest)) {
    const auto found = fingerprint(train, model.data.condition.classes.count > 0);
    if (const auto& known = options.fingerprint; !known.empty() && found != known) {
        log::warn(fmt::format("the network was trained on other data ({}) than these ({})", known, found));
    }
    // Drawn at random: MNIST's file goes from writer to writer, and its first images are few people's.
    some = train.rows(DataOrder(/*seed=*/0, train.size()).indices(0, std::min(count, train.size())));
}

std::string RealImages::features() const {
    return fmt::format("the features of {}, a classifier of MNIST (accuracy {:.2f}%)", kClassifierName,
                       100 * classifier.test_accuracy());
}

std::string RealImages::some_against_test() const {
    return fmt::format("{} random training images against the {} test images", some.size(), test.size());
}

void add_samples(Report& report, const Model& model, const MeasureOptions& options, const RealImages& real,
                 const MeasureSamples& measure) {
    const auto& all = options.samplings;
    const std::string& first = all.front().classes;
    const bool alike = std::ranges::all_of(all, [&](const auto& one) { return one.classes == first; });
    if (model.data.condition.classes.count > 0)
        report.head["classes"] = alike ? shares_words(first) : "as each row says";
    const int64_t count = options.num.value_or(kDefaultSamples);
    const uint64_t seed = uint64_t(options.seed);
    const auto noise = sampling_noise(seed, 0, count, model.data.shape.sizes(), 0);
    const auto guide = guide_of(all, model.device);
    const bool in_intervals =
        std::ranges::any_of(all, [](const auto& one) { return one.guidance_interval.has_value(); });
    for (const auto& sampling : all) {
        const Condition condition = classes_to_draw(sampling, model.data.condition, real.test, count);
        const Sampler sampler = sampler_of(sampling, model, guide, condition, seed);
        const int64_t steps = std::ssize(sampler.grid) - 1;
        const auto drawn =
            run_with_progress(fmt::format("{}, {} steps: image steps", sampling.solver, steps), sampler, noise);
        Json head = row_of(sampling, all, drawn, steps);
        head["guidance"] = sampling.guidance;
        if (in_intervals) head["interval"] = interval_words(sampling);
        for (const Json& said : measure(drawn, condition)) {
            Json row = head;
            row.update(said);
            add(report, row, options);
        }
    }
}

TimedSamples PointSource::draw(const Condition& condition, int64_t count, uint64_t seed,
                               const std::string& what) const {
    const Sampler sampler = sampler_of(sampling, model, guide, condition, seed);
    return run_with_progress(what + ": step", sampler, sampling_noise(seed, 0, count, model.data.shape.sizes(), 0));
}

PointSource only_source(const Model& model, const MeasureOptions& options, const std::string& measure) {
    const auto& all = options.samplings;
    if (!model.data.shape.points) throw Error(fmt::format("{} is of points, and this network draws images", measure));
    if (all.size() == 1) return {model, all.front(), load_guide(all.front(), model.device)};
    throw Error(fmt::format("{} takes one way of sampling; give one solver, spacing and number of steps", measure));
}

}  // namespace diffuse
