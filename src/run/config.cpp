#include "diffuse/run/config.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/diffusion/denoiser.hpp"
#include "diffuse/diffusion/loss.hpp"
#include "diffuse/diffusion/schedule.hpp"
#include "diffuse/train/optimizer.hpp"

namespace diffuse {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr int64_t kMany = 1'000'000'000;
constexpr uintmax_t kLargestConfig = 1 << 20;

template <class T>
struct Range {
    T low, high;
};

// The one description of every key; Reader, Writer and Documenter below each walk it.

template <class Visitor>
void visit(Visitor& v, DatasetConfig& c) {
    v.choice("kind", c.kind, dataset_kinds(), "mnist: four IDX files; digits: drawn by the program itself");
    v.text("dir", c.dir, "folder of the IDX files; empty: $DIFFUSE_MNIST, then data/mnist");
    v.number("limit", c.limit, Range<int64_t>{0, kMany}, "use the first N images; 0: all (of digits: 60000)");
    v.number("seed", c.seed, Range<int64_t>{0, kMany}, "which digits are drawn (kind digits)");
}

template <class Visitor>
void visit(Visitor& v, ScheduleConfig& c) {
    v.choice("kind", c.kind, schedule_names(), "how signal turns to noise");
    v.number("steps", c.steps, Range<int64_t>{1, 100'000}, "T, the number of trained noise levels");
    v.flag("zero_terminal_snr", c.zero_terminal_snr,
           "rescale it to end in pure noise (needs prediction v or x0, weighting v)");
}

template <class Visitor>
void visit(Visitor& v, ModelConfig& c) {
    v.number("base_channels", c.base_channels, Range<int64_t>{8, 1024}, "channels at the first level, a multiple of 8");
    v.list("channel_multipliers", c.channel_multipliers, Range<int64_t>{1, 32}, {1, 8},
           "channels of each level, in base_channels; each level halves the resolution");
    v.number("blocks_per_level", c.blocks_per_level, Range<int64_t>{1, 16}, "residual blocks a level on the way down");
    v.list("attention_resolutions", c.attention_resolutions, Range<int64_t>{1, 1024}, {0, 8},
           "heights of feature maps that get self-attention, e.g. [7]");
    v.number("dropout", c.dropout, Range<double>{0, 0.9}, "probability inside the residual blocks");
    v.number("patch_size", c.patch_size, Range<int64_t>{1, 16}, "2: work on 14x14x4 instead of 28x28x1");
    v.choice("prediction", c.prediction, prediction_names(),
             "what the network's output means; the loss is the error of eps for all");
    v.flag("input_skip", c.input_skip, "with prediction eps: add the input to the output (near pure noise, eps is x)");
}

template <class Visitor>
void visit(Visitor& v, TrainConfig& c) {
    v.number("steps", c.steps, Range<int64_t>{1, kMany}, "optimizer steps");
    v.number("batch_size", c.batch_size, Range<int64_t>{1, 65536}, "images a step");
    v.choice("weighting", c.weighting, weighting_names(), "loss weight by noise level");
    v.number("learning_rate", c.learning_rate, Range<double>{0, 10}, "AdamW's step size after warm-up");
    v.number("warmup_steps", c.warmup_steps, Range<int64_t>{0, kMany}, "steps over which it rises linearly from 0");
    v.choice("decay", c.decay, decay_names(), "how it falls until the last step");
    v.number("weight_decay", c.weight_decay, Range<double>{0, 10}, "AdamW's decoupled weight decay");
    v.number("beta2", c.beta2, Range<double>{0, 0.999999}, "AdamW's decay of the squared gradient");
    v.number("gradient_clip", c.gradient_clip, Range<double>{0, 1e9}, "largest gradient norm; 0: no clipping");
    v.number("ema_decay", c.ema_decay, Range<double>{0, 0.9999999},
             "of the averaged weights; warmed up as (1 + step) / (10 + step)");
    v.number("max_bad_steps", c.max_bad_steps, Range<int64_t>{1, kMany},
             "steps in a row without a finite loss and gradient, each skipped, that end the run");
    v.number("log_every", c.log_every, Range<int64_t>{1, kMany}, "steps between lines of metrics.jsonl");
    v.number("sample_every", c.sample_every, Range<int64_t>{0, kMany}, "steps between sample grids; 0: none");
    v.number("checkpoint_every", c.checkpoint_every, Range<int64_t>{0, kMany},
             "steps between checkpoints; 0: only at the end");
    v.number("keep_checkpoints", c.keep_checkpoints, Range<int64_t>{0, 10'000},
             "also keep this many of the latest checkpoints, each under its step");
}

template <class Visitor>
void visit(Visitor& v, Config& c) {
    v.number("seed", c.seed, Range<int64_t>{0, INT64_MAX}, "of the initial weights, the order of the data, t and eps");
    v.section("dataset", c.dataset);
    v.section("schedule", c.schedule);
    v.section("model", c.model);
    v.section("train", c.train);
}

std::string type_name(int64_t) { return "a whole number"; }
std::string type_name(double) { return "a number"; }

template <class T>
std::string expected(Range<T> range) {
    return fmt::format("{} from {} to {}", type_name(T{}), range.low, range.high);
}

[[noreturn]] void reject(const std::string& path, const Json& found, const std::string& wanted) {
    const std::string shown = found.is_structured() ? fmt::format("an {}", found.type_name()) : to_text(found);
    throw Error(fmt::format("config: {} is {}; expected {}", path, shown, wanted));
}

bool has_type(const Json& json, int64_t) {
    return json.is_number_integer() && !(json.is_number_unsigned() && json.get<uint64_t>() > uint64_t{INT64_MAX});
}
bool has_type(const Json& json, double) { return json.is_number(); }

/// Takes members from a JSON object and remembers which keys it was asked for, so that the rest is known to be wrong.
class Reader {
public:
    Reader(const Json& json, std::string prefix) : json_(json), prefix_(std::move(prefix)) {
        if (!json_.is_object())
            reject(prefix_.empty() ? "the file" : prefix_.substr(0, prefix_.size() - 1), json_, "an object");
    }

    template <class T>
    void number(const char* key, T& value, Range<T> range, const char*) {
        if (const Json* found = find(key)) value = checked(prefix_ + key, *found, range);
    }
    void flag(const char* key, bool& value, const char*) {
        const Json* found = find(key);
        if (found && !found->is_boolean()) reject(prefix_ + key, *found, "true or false");
        if (found) value = found->get<bool>();
    }
    void text(const char* key, std::string& value, const char*) {
        const Json* found = find(key);
        if (found && !found->is_string()) reject(prefix_ + key, *found, "a text");
        if (found) value = found->get<std::string>();
    }
    void choice(const char* key, std::string& value, const std::vector<std::string>& known, const char* meaning) {
        text(key, value, meaning);
        if (std::find(known.begin(), known.end(), value) == known.end()) {
            throw Error("config: " + unknown_name(prefix_ + key, value, known));
        }
    }
    void list(const char* key, std::vector<int64_t>& value, Range<int64_t> range, Range<size_t> length, const char*) {
        const Json* found = find(key);
        if (!found) return;
        if (!found->is_array() || found->size() < length.low || found->size() > length.high) {
            reject(prefix_ + key, *found, fmt::format("a list of {} to {} whole numbers", length.low, length.high));
        }
        value.clear();
        for (size_t i = 0; i < found->size(); ++i) {
            value.push_back(checked(fmt::format("{}{}[{}]", prefix_, key, i), (*found)[i], range));
        }
    }
    template <class Section>
    void section(const char* key, Section& value) {
        const Json* found = find(key);
        if (!found) return;
        Reader reader(*found, prefix_ + key + ".");
        visit(reader, value);
        reader.reject_unknown();
    }
    void reject_unknown() const {
        for (const auto& [key, value] : json_.items()) {
            if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
            std::vector<std::string> paths;
            for (const auto& known : known_) paths.push_back(prefix_ + known);
            throw Error("config: " + unknown_name("key", prefix_ + key, paths));
        }
    }

private:
    const Json* find(const char* key) {
        known_.emplace_back(key);
        const auto found = json_.find(key);
        return found == json_.end() ? nullptr : &*found;
    }
    template <class T>
    static T checked(const std::string& path, const Json& found, Range<T> range) {
        if (!has_type(found, T{})) reject(path, found, expected(range));
        const T value = found.get<T>();
        if (!(value >= range.low && value <= range.high)) reject(path, found, expected(range));
        return value;
    }

    const Json& json_;
    std::string prefix_;
    std::vector<std::string> known_;
};

class Writer {
public:
    template <class T>
    void number(const char* key, T& value, Range<T>, const char*) {
        json[key] = value;
    }
    void flag(const char* key, bool& value, const char*) { json[key] = value; }
    void text(const char* key, std::string& value, const char*) { json[key] = value; }
    void choice(const char* key, std::string& value, const std::vector<std::string>&, const char*) {
        json[key] = value;
    }
    void list(const char* key, std::vector<int64_t>& value, Range<int64_t>, Range<size_t>, const char*) {
        json[key] = value;
    }
    template <class Section>
    void section(const char* key, Section& value) {
        Writer writer;
        visit(writer, value);
        json[key] = std::move(writer.json);
    }
    OrderedJson json = OrderedJson::object();
};

class Documenter {
public:
    explicit Documenter(std::string prefix = "") : prefix_(std::move(prefix)) {}

    template <class T>
    void number(const char* key, T& value, Range<T> range, const char* meaning) {
        add(key, Json(value), expected(range), meaning);
    }
    void flag(const char* key, bool& value, const char* meaning) { add(key, Json(value), "true or false", meaning); }
    void text(const char* key, std::string& value, const char* meaning) { add(key, Json(value), "a text", meaning); }
    void choice(const char* key, std::string& value, const std::vector<std::string>& known, const char* meaning) {
        add(key, Json(value), fmt::format("{}", fmt::join(known, ", ")), meaning);
    }
    void list(const char* key, std::vector<int64_t>& value, Range<int64_t> range, Range<size_t> length,
              const char* meaning) {
        add(key, Json(value),
            fmt::format("{} to {} numbers from {} to {}", length.low, length.high, range.low, range.high), meaning);
    }
    template <class Section>
    void section(const char* key, Section& value) {
        Documenter inner(prefix_ + key + ".");
        visit(inner, value);
        keys.insert(keys.end(), inner.keys.begin(), inner.keys.end());
    }
    std::vector<ConfigKey> keys;

private:
    void add(const char* key, const Json& value, std::string range, const char* meaning) {
        keys.push_back({prefix_ + key, value.dump(), std::move(range), meaning});
    }
    std::string prefix_;
};

/// What each key allows alone, but not together.
Config checked_together(Config config) {
    if (config.train.weighting == "v" && config.model.prediction == "eps") {
        throw Error(
            "config: train.weighting \"v\" is 1 / alpha^2 of the error of eps, nearly all of it at t = T; set "
            "model.prediction to \"v\" or \"x0\", or another weighting");
    }
    if (!config.schedule.zero_terminal_snr) return config;
    if (config.model.prediction == "eps") {
        throw Error(
            "config: schedule.zero_terminal_snr leaves nothing of the picture at t = T, and eps says nothing of x0 "
            "there; set model.prediction to \"v\" or \"x0\"");
    }
    if (config.train.weighting != "v") {
        throw Error(fmt::format(
            "config: schedule.zero_terminal_snr needs train.weighting \"v\": an error of eps says nothing of the "
            "picture at t = T, so with \"{}\" the network would learn nothing there",
            config.train.weighting));
    }
    return config;
}

Json parse_value(const std::string& text) {
    const Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    return value.is_discarded() ? Json(text) : value;
}

void apply_setting(Json& json, const std::string& setting) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
        throw Error(fmt::format("--set {}: expected key.path=value, e.g. train.steps=100", setting));
    }
    Json* target = &json;
    const std::string path = setting.substr(0, equals);
    for (size_t begin = 0; begin <= path.size();) {
        const size_t end = std::min(path.find('.', begin), path.size());
        if (!target->is_object() && !target->is_null()) reject(path.substr(0, begin - 1), *target, "an object");
        target = &(*target)[path.substr(begin, end - begin)];
        begin = end + 1;
    }
    *target = parse_value(setting.substr(equals + 1));
}

Config apply_settings(Json json, const std::vector<std::string>& settings) {
    for (const auto& setting : settings) apply_setting(json, setting);
    return checked_together(config_from_json(json));
}

}  // namespace

Config config_from_json(const Json& json) {
    Config config;
    Reader reader(json, "");
    visit(reader, config);
    reader.reject_unknown();
    return config;
}

OrderedJson to_json(const Config& config) {
    Config copy = config;
    Writer writer;
    visit(writer, copy);
    return writer.json;
}

Config load_config(const std::filesystem::path& path, const std::vector<std::string>& settings) {
    return apply_settings(parse_json(read_file(path, kLargestConfig), display_path(path)), settings);
}

Config with_settings(const Config& config, const std::vector<std::string>& settings) {
    return apply_settings(to_json(config), settings);
}

std::vector<ConfigKey> config_keys() {
    Config defaults;
    Documenter documenter;
    visit(documenter, defaults);
    return documenter.keys;
}

std::vector<ConfigChange> changes(const Config& before, const Config& after) {
    const Json a = to_json(before), b = to_json(after);
    std::vector<ConfigChange> result;
    for (const auto& key : config_keys()) {
        std::string pointer = "/" + key.path;
        std::replace(pointer.begin(), pointer.end(), '.', '/');
        const Json &x = a.at(Json::json_pointer(pointer)), &y = b.at(Json::json_pointer(pointer));
        if (x != y) result.push_back({key.path, to_text(x), to_text(y)});
    }
    return result;
}

}  // namespace diffuse
