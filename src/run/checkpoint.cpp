#include "diffuse/run/checkpoint.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <map>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/tensor_file.hpp"

namespace diffuse {
namespace {

using Json = nlohmann::json;

constexpr const char* kFormat = "diffuse-checkpoint-2";
constexpr int64_t kMaxSide = 4096;  ///< of an image

constexpr const char* kMomentum = "muon.momentum.";

/// The groups of tensors, with what stands before the names of each.
template <class AnyCheckpoint>
auto groups(AnyCheckpoint& checkpoint) {
    return std::array{std::pair{std::string("model."), &checkpoint.model},
                      std::pair{std::string("ema."), &checkpoint.ema},
                      std::pair{std::string("adamw.mean."), &checkpoint.training.mean},
                      std::pair{std::string("adamw.square."), &checkpoint.training.square},
                      std::pair{std::string(kMomentum), &checkpoint.training.momentum}};
}

std::map<std::string, std::string> metadata_of(const Checkpoint& checkpoint) {
    const TrainingState& training = checkpoint.training;
    const ConditionSpec& condition = checkpoint.data.condition;
    std::map<std::string, std::string> metadata = {{"format", kFormat},
                                                   {"config", to_text(to_json(checkpoint.config))},
                                                   {"image_shape", to_text(Json(checkpoint.data.shape.sizes()))},
                                                   {"step", to_text(Json(checkpoint.step))},
                                                   {"bad_steps", to_text(Json(training.bad_steps))},
                                                   {"loss", training.loss ? to_text(Json(*training.loss)) : "null"},
                                                   {"window_loss", to_text(Json(training.window.loss))},
                                                   {"window_grad_norm", to_text(Json(training.window.grad_norm))},
                                                   {"window_steps", to_text(Json(training.window.steps))},
                                                   {"window_level_loss", to_text(Json(training.window.level_loss))},
                                                   {"window_level_count", to_text(Json(training.window.level_count))},
                                                   {"data", training.fingerprint},
                                                   {"about_data", checkpoint.data.about},
                                                   {"class_names", to_text(Json(condition.classes.names))},
                                                   {"machine", training.machine}};
    if (!checkpoint.data.shape.points) return metadata;
    metadata["columns"] = to_text(to_json(checkpoint.data.codec.columns));
    metadata["given_columns"] = to_text(to_json(condition.numbers));
    return metadata;
}

/// Takes the metadata apart; every failure names the file.
class MetadataReader {
public:
    MetadataReader(const TensorFile& file, const std::filesystem::path& path)
        : metadata_(file.metadata), name_(display_path(path)) {}

    void read(Checkpoint& checkpoint) const {
        if (text("format") != kFormat) {
            throw Error(fmt::format("{}: its format is '{}'; this program reads {}", name_, text("format"), kFormat));
        }
        try {
            checkpoint.config = config_from_json(json("config"));
        } catch (const Error& error) {
            throw Error(fmt::format("{}: {}", name_, error.what()));
        }
        checkpoint.data = data_spec(checkpoint.config.net.classes.value_or(0));
        checkpoint.step = whole(json("step"), "step");
        TrainingState& training = checkpoint.training;
        training.bad_steps = whole(json("bad_steps"), "bad_steps");
        require(training.bad_steps <= checkpoint.step, "bad_steps");
        if (!json("loss").is_null()) training.loss = number("loss");
        training.window = {number("window_loss"), number("window_grad_norm"),
                           whole(json("window_steps"), "window_steps")};
        read_bins("window_level_loss", training.window.level_loss);
        read_bins("window_level_count", training.window.level_count);
        training.fingerprint = text("data");
        training.machine = text("machine");
    }

private:
    DataSpec data_spec(int64_t classes) const {
        DataSpec data{.shape = shape(), .about = text("about_data")};
        data.condition.classes = {classes, names(json("class_names"))};
        require(std::ssize(data.condition.classes.names) <= classes, "class_names");
        if (!data.shape.points) return data;
        data.codec.columns = columns("columns");
        data.condition.numbers = columns("given_columns");
        require(std::ssize(data.codec.columns) == data.shape.channels, "columns");
        return data;
    }
    /// Of images three numbers, of points one.
    ExampleShape shape() const {
        const Json shape = json("image_shape");
        require(shape.is_array() && (shape.size() == 3 || shape.size() == 1), "image_shape");
        const auto side = [&](size_t i) {
            const int64_t value = whole(shape[i], "image_shape");
            require(value >= 1 && value <= kMaxSide, "image_shape");
            return value;
        };
        return shape.size() == 1 ? ExampleShape::of_points(side(0)) : ExampleShape{side(0), side(1), side(2)};
    }
    Columns columns(const std::string& key) const {
        return columns_from_json(json(key), fmt::format("{}: its '{}'", name_, key));
    }
    void require(bool holds, const std::string& key) const {
        if (!holds) throw Error(fmt::format("{}: its '{}' makes no sense", name_, key));
    }
    const std::string& text(const std::string& key) const {
        const auto found = metadata_.find(key);
        if (found != metadata_.end()) return found->second;
        throw Error(fmt::format("{}: not a checkpoint of diffuse: it has no '{}'", name_, key));
    }
    Json json(const std::string& key) const { return parse_json(text(key), fmt::format("{}: its '{}'", name_, key)); }
    int64_t whole(const Json& value, const std::string& key) const {
        require(value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{INT64_MAX}, key);
        return value.get<int64_t>();
    }
    void read_bins(const std::string& key, std::array<double, kLevelBins>& bins) const {
        const Json value = json(key);
        require(value.is_array() && value.size() == bins.size(), key);
        for (size_t i = 0; i < bins.size(); ++i) {
            require(value[i].is_number(), key);
            bins[i] = value[i].get<double>();
        }
    }
    std::vector<std::string> names(const Json& value) const {
        require(value.is_array(), "class_names");
        for (const auto& name : value) require(name.is_string(), "class_names");
        return value.get<std::vector<std::string>>();
    }
    double number(const std::string& key) const {
        const Json value = json(key);
        require(value.is_number(), key);
        return value.get<double>();
    }

    const std::map<std::string, std::string>& metadata_;
    std::string name_;
};

/// "3 missing (a, b, c)", at most ten of them by name; empty for none.
void report(std::string& message, const std::vector<std::string>& names, const char* what) {
    if (names.empty()) return;
    const std::vector<std::string> shown(names.begin(), names.begin() + std::min<ptrdiff_t>(10, std::ssize(names)));
    message += fmt::format("{}{} {} ({}{})", message.empty() ? "" : ", ", names.size(), what, fmt::join(shown, ", "),
                           names.size() > shown.size() ? ", ..." : "");
}

}  // namespace

std::filesystem::path checkpoint_file(const std::filesystem::path& path) {
    return is_folder(path) ? path / kCheckpointName : path;
}

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
    TensorFile file{{}, metadata_of(checkpoint)};
    for (const auto& [prefix, tensors] : groups(checkpoint)) {
        for (const auto& [name, tensor] : *tensors) file.tensors[prefix + name] = tensor.detach().cpu();
    }
    write_tensor_file(path, file);
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
    const auto file_path = checkpoint_file(path);
    const TensorFile file = read_tensor_file(file_path);
    Checkpoint checkpoint{.name = display_path(file_path)};
    MetadataReader(file, file_path).read(checkpoint);
    const auto all = groups(checkpoint);
    for (const auto& [name, tensor] : file.tensors) {
        const auto group = std::find_if(all.begin(), all.end(),
                                        [&, &full = name](const auto& row) { return full.starts_with(row.first); });
        if (group == all.end()) {
            throw Error(
                fmt::format("{}: the tensor '{}' belongs to no checkpoint of diffuse", display_path(file_path), name));
        }
        group->second->emplace_back(name.substr(group->first.size()), tensor);
    }
    return checkpoint;
}

Checkpoint load_to_resume(const std::filesystem::path& path) {
    Checkpoint checkpoint = load_checkpoint(path);
    for (const auto& [prefix, tensors] : groups(checkpoint)) {
        const bool is_needed = prefix != kMomentum || checkpoint.config.train.optimizer == "muon";
        if (!tensors->empty() || !is_needed) continue;
        throw Error(
            fmt::format("{}: it has no '{}' tensors, without which training cannot go on as it was; it can only "
                        "be sampled; begin a new run instead",
                        checkpoint.name, prefix));
    }
    return checkpoint;
}

void restore(const NamedTensors& into, const NamedTensors& from, const std::string& what) {
    const torch::NoGradGuard no_grad;
    std::map<std::string, torch::Tensor> available(from.begin(), from.end());
    std::vector<std::string> missing, misshaped, extra;
    for (const auto& [name, tensor] : into) {
        const auto found = available.find(name);
        if (found == available.end()) {
            missing.push_back(name);
            continue;
        }
        if (found->second.sizes() != tensor.sizes() || found->second.scalar_type() != tensor.scalar_type())
            misshaped.push_back(name);
        else
            torch::Tensor(tensor).copy_(found->second);
        available.erase(found);
    }
    for (const auto& [name, tensor] : available) extra.push_back(name);
    std::string problem;
    report(problem, missing, "missing");
    report(problem, misshaped, "of another shape or type");
    report(problem, extra, "unknown");
    if (!problem.empty()) throw Error(what + " do not fit the checkpoint's config: " + problem);
}

}  // namespace diffuse
