#include "diffuse/run/checkpoint.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <limits>
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
constexpr const char* kClassExamples = "class_examples";  ///< in checkpoints since they say it

/// The groups of tensors, with what stands before the names of each.
template <class AnyCheckpoint>
auto groups(AnyCheckpoint& checkpoint) {
    return std::array{std::pair{std::string("model."), &checkpoint.model},
                      std::pair{std::string("ema."), &checkpoint.ema},
                      std::pair{std::string("adamw.mean."), &checkpoint.training.mean},
                      std::pair{std::string("adamw.square."), &checkpoint.training.square},
                      std::pair{std::string(kMomentum), &checkpoint.training.momentum}};
}

/// What the metadata hold, but for the format and the columns of points: texts as they are, all else as JSON. `shape`:
/// of three numbers for images, of one for points.
Fields metadata_fields(Checkpoint& checkpoint, std::vector<int64_t>& shape) {
    constexpr double kMost = std::numeric_limits<double>::max();
    TrainingState& training = checkpoint.training;
    MetricsWindow& window = training.window;
    return {{"config", fields(checkpoint.config)},
            {"image_shape", List{&shape, 1, kMaxSide, 1, 3}},
            {"step", Number<int64_t>{&checkpoint.step, 0, INT64_MAX}},
            {"bad_steps", Number<int64_t>{&training.bad_steps, 0, INT64_MAX}},
            {"loss", Number<std::optional<double>>{&training.loss, -kMost, kMost}},
            {"window_loss", Number<double>{&window.loss, -kMost, kMost}},
            {"window_grad_norm", Number<double>{&window.grad_norm, 0, kMost}},
            {"window_steps", Number<int64_t>{&window.steps, 0, INT64_MAX}},
            {"window_level_loss", Reals{&window.level_loss, -kMost, kMost}},
            {"window_level_count", Reals{&window.level_count, 0, kMost}},
            {"data", &training.fingerprint},
            {"about_data", &checkpoint.data.about},
            {"class_names", Words{&checkpoint.data.condition.classes.names}},
            {kClassExamples, List{&checkpoint.data.condition.classes.examples, 0, INT64_MAX, 0, SIZE_MAX}},
            {"machine", &training.machine}};
}

std::map<std::string, std::string> metadata_of(Checkpoint checkpoint) {
    std::vector<int64_t> shape = checkpoint.data.shape.sizes();
    std::map<std::string, std::string> metadata = {{"format", kFormat}};
    for (const auto& field : metadata_fields(checkpoint, shape)) {
        const auto value = value_of(field);
        metadata[field.key] = value.is_string() ? value.get<std::string>() : to_text(value);
    }
    if (!checkpoint.data.shape.points) return metadata;
    metadata["columns"] = to_text(to_json(checkpoint.data.codec.columns));
    metadata["given_columns"] = to_text(to_json(checkpoint.data.condition.numbers));
    return metadata;
}

/// Takes the metadata apart; every failure names the file.
class MetadataReader {
public:
    MetadataReader(const TensorFile& file, const std::string& name) : metadata_(file.metadata), name_(name) {}

    void read(Checkpoint& checkpoint) const {
        if (text("format") != kFormat) {
            throw Error(fmt::format("{}: its format is '{}'; this program reads {}", name_, text("format"), kFormat));
        }
        std::vector<int64_t> shape;
        for (const auto& field : metadata_fields(checkpoint, shape)) {
            if (field.key == kClassExamples && !metadata_.contains(field.key)) continue;
            const bool is_text = std::holds_alternative<std::string*>(field.value);
            const Json value = is_text ? Json(text(field.key)) : json(field.key);
            diffuse::read({field}, Json::object({{field.key, value}}), name_);
        }
        require(shape.size() != 2, "image_shape");
        const bool points = shape.size() == 1;
        checkpoint.data.shape = points ? ExampleShape::of_points(shape[0]) : ExampleShape{shape[0], shape[1], shape[2]};
        const MetricsWindow& window = checkpoint.training.window;
        require(window.level_loss.size() == kLevelBins, "window_level_loss");
        require(window.level_count.size() == kLevelBins, "window_level_count");
        require(checkpoint.training.bad_steps <= checkpoint.step, "bad_steps");
        Classes& classes = checkpoint.data.condition.classes;
        classes.count = checkpoint.config.net.classes.value_or(0);
        require(std::ssize(classes.names) <= classes.count, "class_names");
        require(classes.examples.empty() || std::ssize(classes.examples) == classes.count, kClassExamples);
        if (points) read_columns(checkpoint.data);
    }

private:
    void read_columns(DataSpec& data) const {
        const auto columns = [&](const std::string& key) {
            return columns_from_json(json(key), fmt::format("{}: its '{}'", name_, key));
        };
        data.codec.columns = columns("columns");
        data.condition.numbers = columns("given_columns");
        require(std::ssize(data.codec.columns) == data.shape.channels, "columns");
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

    const std::map<std::string, std::string>& metadata_;
    const std::string& name_;
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
    MetadataReader(file, checkpoint.name).read(checkpoint);
    const auto all = groups(checkpoint);
    for (const auto& [name, tensor] : file.tensors) {
        const auto group = std::find_if(all.begin(), all.end(),
                                        [&, &full = name](const auto& row) { return full.starts_with(row.first); });
        if (group == all.end()) {
            throw Error(fmt::format("{}: the tensor '{}' belongs to no checkpoint of diffuse", checkpoint.name, name));
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
