#include "diffuse/checkpoint.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>

#include "diffuse/error.hpp"
#include "diffuse/file.hpp"
#include "diffuse/tensor_file.hpp"

namespace diffuse {
namespace {

constexpr const char* kFormat = "diffuse-checkpoint-1";

std::string text_of(const ImageShape& shape) {
    return nlohmann::json{shape.channels, shape.height, shape.width}.dump();
}

void add(std::map<std::string, torch::Tensor>& to, const std::string& prefix,
         const std::map<std::string, torch::Tensor>& from) {
    for (const auto& [name, tensor] : from) to[prefix + name] = tensor;
}

/// The metadata of a checkpoint; `fail` names the file.
void read_metadata(const TensorFile& file, const std::filesystem::path& path, Checkpoint& checkpoint) {
    const auto get = [&](const std::string& key) {
        const auto found = file.metadata.find(key);
        if (found == file.metadata.end())
            throw Error(fmt::format("{}: not a checkpoint of diffuse: it has no '{}'", display_path(path), key));
        return found->second;
    };
    if (get("format") != kFormat) {
        throw Error(
            fmt::format("{}: its format is '{}'; this program reads {}", display_path(path), get("format"), kFormat));
    }
    const auto json = [&](const std::string& key) {
        auto value = nlohmann::json::parse(get(key), nullptr, /*allow_exceptions=*/false);
        if (value.is_discarded()) throw Error(fmt::format("{}: its '{}' is not valid JSON", display_path(path), key));
        return value;
    };
    const auto shape = json("image_shape"), step = json("step");
    const auto side = [](const nlohmann::json& n) { return n.is_number_unsigned() && n >= 1 && n <= 4096; };
    if (!shape.is_array() || shape.size() != 3 || !std::all_of(shape.begin(), shape.end(), side) ||
        !step.is_number_unsigned()) {
        throw Error(fmt::format("{}: its image_shape or step makes no sense", display_path(path)));
    }
    try {
        checkpoint.config = config_from_json(json("config"));
    } catch (const Error& error) {
        throw Error(fmt::format("{}: {}", display_path(path), error.what()));
    }
    checkpoint.shape = {shape[0], shape[1], shape[2]};
    checkpoint.step = step;
}

/// "3 missing (a, b, c)", at most ten of them by name; empty for none.
void report(std::string& message, const std::vector<std::string>& names, const char* what) {
    if (names.empty()) return;
    const std::vector<std::string> shown(names.begin(), names.begin() + std::min<ptrdiff_t>(10, std::ssize(names)));
    message += fmt::format("{}{} {} ({}{})", message.empty() ? "" : ", ", names.size(), what, fmt::join(shown, ", "),
                           names.size() > shown.size() ? ", ..." : "");
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint) {
    TensorFile file;
    file.metadata = {
        {"format", kFormat},
        {"step", std::to_string(checkpoint.step)},
        {"image_shape", text_of(checkpoint.shape)},
        {"config", to_json(checkpoint.config).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)}};
    add(file.tensors, "model.", checkpoint.model);
    add(file.tensors, "ema.", checkpoint.ema);
    write_tensor_file(path, file);
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
    const auto file_path = is_folder(path) ? path / kCheckpointName : path;
    TensorFile file = read_tensor_file(file_path);
    Checkpoint checkpoint;
    read_metadata(file, file_path, checkpoint);
    for (auto& [name, tensor] : file.tensors) {
        if (name.starts_with("model."))
            checkpoint.model[name.substr(6)] = tensor;
        else if (name.starts_with("ema."))
            checkpoint.ema[name.substr(4)] = tensor;
        else
            throw Error(
                fmt::format("{}: the tensor '{}' belongs to no checkpoint of diffuse", display_path(file_path), name));
    }
    return checkpoint;
}

std::map<std::string, torch::Tensor> weights_of(const UNet& network) {
    std::map<std::string, torch::Tensor> weights;
    for (const auto& [name, weight] : network.named_parameters()) weights[name] = weight.detach().cpu().clone();
    return weights;
}

UNet make_network(const Checkpoint& checkpoint, Weights weights, torch::Device device) {
    const torch::NoGradGuard no_grad;
    UNet network(checkpoint.config.model, checkpoint.shape, /*seed=*/0, device);
    auto available = weights == Weights::kEma ? checkpoint.ema : checkpoint.model;
    std::vector<std::string> missing, misshaped, extra;
    for (auto& [name, weight] : network.named_parameters()) {
        const auto found = available.find(name);
        if (found == available.end())
            missing.push_back(name);
        else if (found->second.sizes() != weight.sizes() || found->second.scalar_type() != torch::kFloat32)
            misshaped.push_back(name);
        else
            weight.copy_(found->second);
        if (found != available.end()) available.erase(found);
    }
    for (const auto& [name, tensor] : available) extra.push_back(name);
    std::string problem;
    report(problem, missing, "missing");
    report(problem, misshaped, "of another shape or type");
    report(problem, extra, "unknown");
    if (!problem.empty()) throw Error("the checkpoint's weights do not fit its config: " + problem);
    network.set_training(false);
    return network;
}

}  // namespace diffuse
