#include "diffuse/run/config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/diffusion/objective.hpp"
#include "diffuse/run/checkpoint.hpp"
#include "diffuse/run/defaults.hpp"

namespace diffuse {
namespace {

using Json = nlohmann::json;

constexpr uintmax_t kMaxBytes = 1 << 20;

/// What each key allows alone, but not together.
Config checked_together(Config config) {
    check(config.sample);
    // What these refuse is found out before a run begins.
    make_parameterization(config.parameterization);
    training_levels(/*seed=*/0, /*step=*/0, /*batch=*/1, make_schedule(config.schedule), config.train.levels);
    const std::string &prediction = config.parameterization.prediction, &weighting = config.train.weighting;
    const bool bare_eps = prediction == "eps" && config.parameterization.input_skip != "scaled";
    const auto to_pure_noise = weightings_to_pure_noise();
    const bool reaches_pure_noise = std::ranges::count(to_pure_noise, weighting) > 0;
    if (reaches_pure_noise && bare_eps) {
        throw Error(fmt::format(
            "config: train.weighting \"{}\" is about 1 / alpha^2 of the error of eps, nearly all of it at t = "
            "T; set model.input_skip to \"scaled\", another model.prediction, or another weighting",
            weighting));
    }
    if (needs_of(config.train.objective).second_derivatives && config.net.kind != "mlp") {
        throw Error(
            fmt::format("config: train.objective {} takes derivatives of the network's derivatives, which model.kind "
                        "{} does not have; set model.kind to \"mlp\", or train.objective to \"ddpm\" or \"dsm\"",
                        config.train.objective, config.net.kind));
    }
    if (!config.schedule.zero_terminal_snr) return config;
    if (bare_eps) {
        throw Error(
            "config: schedule.zero_terminal_snr leaves nothing of the image at t = T, and eps says nothing of x0 "
            "there; set model.input_skip to \"scaled\", or model.prediction to \"v\" or \"x0\"");
    }
    if (!reaches_pure_noise) {
        throw Error(fmt::format(
            "config: schedule.zero_terminal_snr needs train.weighting {}: an error of eps says nothing of the image at "
            "t = T, so with {} the network would learn nothing there",
            fmt::join(to_pure_noise, " or "), weighting));
    }
    return config;
}

/// The value of a key, of which some are texts: sample.class=3.
Json parse_value(const std::string& path, const std::string& text) {
    Config config;
    const auto keys = leaves(fields(config));
    const bool wants_text = std::any_of(keys.begin(), keys.end(), [&](const Field& key) {
        return key.key == path && (std::holds_alternative<std::string*>(key.value) ||
                                   (std::holds_alternative<std::optional<std::string>*>(key.value) && text != "null"));
    });
    return json_or_text(text, wants_text);
}

void apply_setting(Json& json, const std::string& setting) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
        throw Error(fmt::format("setting '{}': expected key.path=value, e.g. train.steps=100", setting));
    }
    Json* target = &json;
    const std::string path = setting.substr(0, equals);
    for (size_t begin = 0; begin <= path.size();) {
        const size_t end = std::min(path.find('.', begin), path.size());
        if (!target->is_object() && !target->is_null()) {
            throw Error(
                fmt::format("config: {} is {}; expected an object", path.substr(0, begin - 1), to_text(*target)));
        }
        target = &(*target)[path.substr(begin, end - begin)];
        begin = end + 1;
    }
    const Json value = parse_value(path, setting.substr(equals + 1));
    if (value.is_object() && target->is_object())
        target->merge_patch(value);  // the keys that it does not name stay
    else
        *target = value;
}

/// What settings say, as a config that says nothing else.
Json said_by(const std::vector<std::string>& settings) {
    Json said = Json::object();
    for (const auto& setting : settings) apply_setting(said, setting);
    return said;
}

Json value_of_section(const Json& json, const std::string& section) {
    const auto found = json.find(section);
    return found != json.end() && found->is_object() ? *found : Json::object();
}

/// The value of "train.steps" in a config; null where it has none.
Json value_at(const Json& json, const std::string& path) {
    const size_t dot = std::min(path.find('.'), path.size());
    const Json section = value_of_section(json, path.substr(0, dot));
    const auto found = section.find(path.substr(std::min(dot + 1, path.size())));
    return found == section.end() ? Json() : *found;
}

bool is_said(const Json& said, const std::string& path) { return !value_at(said, path).is_null(); }

/// Takes a key away that a config has and no setting says.
void leave_out(Json& json, const Json& said, const std::string& path, const std::string& why, LeftOut& left_out) {
    const size_t dot = path.find('.');
    const std::string section = path.substr(0, dot), key = path.substr(dot + 1);
    const Json value = value_at(json, path);
    if (value.is_null() || value_of_section(said, section).contains(key)) return;
    Config fresh;
    if (value != value_at(to_json(fields(fresh)), path)) left_out.add(path, value, why);
    json[section].erase(key);
}

/// What belongs to another choice than a setting makes: dataset.size of images where that says dataset.kind=cifar10.
void leave_out_foreign(Json& json, const Json& said, LeftOut& left_out) {
    Config fresh;
    for (const auto& key : leaves(fields(fresh))) {
        const Json chosen = value_at(said, key.belongs.choice);
        const auto& names = key.belongs.names;
        if (!chosen.is_string() || std::ranges::find(names, chosen.get<std::string>()) != names.end()) continue;
        leave_out(json, said, key.key, fmt::format("for {} {}", key.belongs.choice, fmt::join(names, ", ")), left_out);
    }
}

/// A config as it is but for what the settings say, and what of it does not go with that.
Config apply_settings(Json json, const std::vector<std::string>& settings) {
    const Json said = said_by(settings);
    LeftOut left_out;
    const Json sampling = value_of_section(said, "sample");
    const bool says_length = sampling.contains("steps") || sampling.contains("nfe");
    if (says_length && json.contains("sample") && json["sample"].is_object()) {
        for (const char* key : {"steps", "nfe"}) json["sample"].erase(key);  // one of them
    }
    for (const auto& unfit : unfit_for_sampling(sampling, value_of_section(json, "sample"))) {
        for (const auto& key : unfit.keys) leave_out(json, said, "sample." + key, unfit.why, left_out);
    }
    leave_out_foreign(json, said, left_out);
    for (const auto& setting : settings) apply_setting(json, setting);
    Config config = checked_together(config_from_json(json));
    left_out.tell();
    return config;
}

/// The network's, not the machine's.
Fields fields_of_sample(SampleOptions& options) {
    Fields all = fields(options);
    std::erase_if(all, [](const Field& field) { return field.key == "batch"; });
    for (auto& field : all) field.may_change = true;
    return all;
}

/// So that the run finds its data, and its guide, from everywhere.
Config with_absolute_paths(Config config) {
    config.dataset = located(config.dataset);
    if (!config.sample.guide.empty()) config.sample.guide = display_path(config.sample.guide);
    return config;
}

/// Of the examples as the network sees them, to four decimals, so that it is the same on every machine.
double root_mean_square(const torch::Tensor& examples) {
    const auto mean = [&] {
        if (examples.scalar_type() != torch::kUInt8) return examples.to(torch::kFloat64).square().mean().item<double>();
        const auto counts = torch::bincount(examples.flatten(), {}, 256).to(torch::kFloat64);
        const auto values = torch::arange(256, torch::kFloat64) / 127.5 - 1;
        return (counts * values.square()).sum().item<double>() / double(examples.numel());
    };
    return std::round(1e4 * std::sqrt(mean())) / 1e4;
}

/// Refuses what `sample` would refuse of the run that is to come.
void check_sampling(const Config& config, const DataSpec& data) {
    const SampleOptions& sample = config.sample;
    check_bounds(sample, data.shape);
    const ConditionSpec condition = seen_by_network(config, data).condition;
    check_guidance(sample, condition.of_classes(sample.classes, 1));
    negative_class(sample, condition);
    make_grid(sample, make_schedule(config.schedule), data.shape.numel());
    if (sample.guide.empty() || path_exists(checkpoint_file(sample.guide))) return;
    throw Error(fmt::format("config: sample.guide: there is no {}", display_path(checkpoint_file(sample.guide))));
}

/// How many classes the network knows.
int64_t resolved_classes(const std::optional<int64_t>& asked, const Dataset& dataset) {
    const bool has_numbers = dataset.condition.numbers.defined();  // instead of classes
    const int64_t labels = dataset.spec.condition.classes.count;
    const int64_t classes = asked.value_or(has_numbers ? 0 : labels);
    const auto refuse = [&](const std::string& why) {
        throw Error(fmt::format("config: model.classes is {}, but {}", classes, why));
    };
    if (classes > 0 && has_numbers) refuse("the condition of the data is numbers; set it to 0");
    if (classes > 0 && labels == 0) {
        refuse(fmt::format("there are no labels beside the {}s; set it to 0", noun(dataset.spec.shape)));
    }
    if (classes > 0 && classes < labels) {
        refuse(fmt::format("the labels go up to {}; set it to {}, or to 0 for none", labels - 1, labels));
    }
    return classes;
}

/// Gives a key the value that configs begin with, unless a setting says it, which is refused later.
void reset(Config& config, const std::string& path, const std::string& why, const Json& said, LeftOut& left_out) {
    Config fresh;
    const Fields all = leaves(fields(config)), others = leaves(fields(fresh));
    const auto at = std::ranges::find(all, path, &Field::key);
    const Json value = value_of(*at), by_default = value_of(others[size_t(at - all.begin())]);
    if (value == by_default || is_said(said, path)) return;
    left_out.add(path, value, why);
    read({{at->key, at->value}}, {{path, by_default}}, /*what=*/"");
}

/// Attention at the levels that the network has on images of this size.
void fit_attention(Config& config, const ExampleShape& shape, const Json& said, LeftOut& left_out) {
    const std::string path = "model.attention_resolutions";
    if (shape.points || config.net.kind != "unet" || is_said(said, path)) return;
    auto& attention = config.net.unet.attention_resolutions;
    const auto levels = level_heights(config.net.unet, shape);
    const int64_t halved = levels.back() * config.net.unet.patch_size << (levels.size() - 1);
    if (halved != shape.height) return;  // the network will refuse it
    const auto missing = [&](int64_t height) { return height != 0 && std::ranges::count(levels, height) == 0; };
    if (std::ranges::none_of(attention, missing)) return;
    left_out.add(path, attention, fmt::format("the levels of these images are {} high", fmt::join(levels, ", ")));
    std::erase_if(attention, missing);
}

/// A config without the defaults that do not go with the data.
Config fitted_to(const DataSpec& data, Config config, const Json& said, LeftOut& left_out) {
    fit_attention(config, data.shape, said, left_out);
    const std::string why = "of images, and the data are points";
    for (const char* path : {"dataset.flip", "sample.clip_x0", "sample.threshold"}) {
        if (data.shape.points) reset(config, path, why, said, left_out);
    }
    const std::string& drawn = config.sample.classes;
    const bool has_class = !seen_by_network(config, data).condition.cycle(drawn).empty();
    config.sample = guided_if_possible(config.sample, value_of_section(said, "sample"), has_class, left_out);
    return config;
}

/// Where the config's own way of sampling needs labels that training never shows.
void warn_of_untrained(const Config& config) {
    const auto [classes, none] = trained_labels(config);
    const SampleOptions& sample = config.sample;
    const bool leads_from_none = sample.guidance != 1 && sample.guide.empty() && !sample.negative_class;
    const bool draws_none = sample.classes == "none";
    if (!none && (leads_from_none || draws_none)) {
        log::warn(
            fmt::format("train.label_dropout is 0, so the network never learns to draw of no class, which {} "
                        "needs; set it to 0.1, say",
                        draws_none ? "sample.class none" : fmt::format("sample.guidance {}", sample.guidance)));
    }
    if (classes || draws_none) return;
    log::warn(
        "train.label_dropout is 1, so the network never learns a class; set it to 0.1, say, or model.classes to 0");
}

}  // namespace

Fields fields(Config& config) {
    Fields model = fields(config.net);
    for (auto& field : fields(config.parameterization)) model.push_back(std::move(field));
    return {{"seed", Number<int64_t>{&config.seed, 0, INT64_MAX},
             "random seed for the initial weights, the order of the data, t and eps"},
            {"dataset", fields(config.dataset)},
            {"schedule", fields(config.schedule)},
            {"model", std::move(model)},
            {"train", fields(config.train)},
            {"sample", fields_of_sample(config.sample)}};
}

Config config_from_json(const Json& json) {
    Config config;
    read(fields(config), json, "config");
    return config;
}

nlohmann::ordered_json to_json(const Config& config) {
    Config copy = config;
    return to_json(fields(copy));
}

Config load_config(const std::filesystem::path& path, const std::vector<std::string>& settings) {
    const auto file = path_exists(path) ? path : shipped_file(path);
    return apply_settings(parse_json(read_file(file, kMaxBytes), display_path(file)), settings);
}

Config with_settings(const Config& config, const std::vector<std::string>& settings) {
    return settings.empty() ? config : apply_settings(to_json(config), settings);
}

TrainedLabels trained_labels(const Config& config) {
    if (config.net.classes.value_or(0) == 0) return {};
    return {.classes = config.train.label_dropout<1, .none = config.train.label_dropout> 0};
}

Config resolved(Config config, const Dataset& dataset, const std::vector<std::string>& settings) {
    LeftOut left_out;
    config.net.classes = resolved_classes(config.net.classes, dataset);
    config = fitted_to(dataset.spec, config, said_by(settings), left_out);
    check_sampling(config, dataset.spec);  // before hours are spent
    if (config.dataset.flip && dataset.spec.shape.points) {
        throw Error("config: dataset.flip mirrors images, and the data are points; set it to false");
    }
    config = with_absolute_paths(config);
    if (config.parameterization.prediction == "edm" && !config.parameterization.sigma_data) {
        config.parameterization.sigma_data = root_mean_square(dataset.examples);
    }
    config = config_from_json(to_json(config));  // what the data add lies within its range too, before hours are spent
    left_out.tell();
    warn_of_untrained(config);
    return config;
}

Config resumed(const Config& before, Config asked) {
    asked = with_absolute_paths(asked);
    if (!asked.net.classes) asked.net.classes = before.net.classes;  // the data cannot change
    if (!asked.parameterization.sigma_data) asked.parameterization.sigma_data = before.parameterization.sigma_data;
    for (const auto& change : changes(before, asked)) {
        if (change.may_change) continue;
        throw Error(fmt::format("{} is {} in this run and cannot become {}; start another run for that", change.path,
                                change.before, change.after));
    }
    return asked;
}

std::vector<Change> changes(const Config& before, const Config& after) {
    Config a = before, b = after;
    return changes(fields(a), fields(b));
}

DataSpec seen_by_network(const Config& config, DataSpec data) {
    Classes& classes = data.condition.classes;
    classes.count = config.net.classes.value();
    if (classes.count == 0) classes.names.clear();
    if (!classes.examples.empty()) classes.examples.resize(size_t(classes.count));
    return data;
}

}  // namespace diffuse
