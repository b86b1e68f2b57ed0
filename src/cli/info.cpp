#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>
#include <unistd.h>

#include <set>
#include <sstream>

#include "cli/common.hpp"
#include "diffuse/base/device.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/run/machine.hpp"
#include "diffuse/run/model.hpp"
#include "diffuse/run/sampling.hpp"

namespace diffuse::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InfoCommand {
    std::string path;
    bool json = false;
};

/// "weights, their average (EMA) and AdamW's two means": what of it is in the file.
std::string contents(const Checkpoint& checkpoint) {
    std::vector<std::string> parts;
    if (!checkpoint.model.empty()) parts.emplace_back("weights");
    if (!checkpoint.ema.empty()) {
        parts.push_back(fmt::format("average of the weights (EMA, decay {})", checkpoint.config.train.ema_decay));
    }
    if (!checkpoint.training.mean.empty()) parts.emplace_back("AdamW's means");
    if (!checkpoint.training.momentum.empty()) parts.emplace_back("Muon's momentum");
    return fmt::format("{}", fmt::join(parts, ", "));
}

/// Parameters of its networks, each of which is built, so that one that cannot be used is found out.
int64_t parameters_of(const Checkpoint& checkpoint) {
    int64_t count = 0;
    for (const auto& weights : weights_names()) {
        if (has_weights(checkpoint, weights)) count = make_network(checkpoint, weights, torch::kCPU).parameter_count();
    }
    return count;
}

Json json_of(const Checkpoint& checkpoint, const std::filesystem::path& file) {
    const TrainingState& training = checkpoint.training;
    Json json;
    json["checkpoint"] = display_path(file);
    json["bytes"] = std::filesystem::file_size(file);
    json["contents"] = contents(checkpoint);
    json["step"] = checkpoint.step;
    json["steps"] = checkpoint.config.train.steps;
    json["images"] = checkpoint.step * checkpoint.config.train.batch_size;
    json["loss"] = training.loss ? Json(*training.loss) : Json();
    json["bad_steps"] = training.bad_steps;
    json["parameters"] = parameters_of(checkpoint);
    json["ema_decay"] = checkpoint.config.train.ema_decay;
    json["image_shape"] = checkpoint.data.shape.sizes();
    json["data"] = training.fingerprint;
    json["about_data"] = checkpoint.data.about;
    json["class_names"] = checkpoint.data.condition.classes.names;
    json["machine"] = training.machine;
    json["config"] = to_json(checkpoint.config);
    return json;
}

/// Lines of what was done to the data and of the classes' names, where there is something to say.
std::string about_data(const Checkpoint& checkpoint) {
    std::string text;
    std::vector<std::string> done;
    if (!checkpoint.data.about.empty()) done.push_back(log::printable(checkpoint.data.about));
    if (checkpoint.config.dataset.transpose) done.emplace_back("rows and columns exchanged");
    if (checkpoint.config.dataset.flip) done.emplace_back("half of them mirrored at each step");
    const std::string nouns = noun(checkpoint.data.shape) + std::string("s");
    if (!done.empty()) text += fmt::format("{:<11} {}\n", nouns, fmt::join(done, "; "));
    if (const auto& names = checkpoint.data.condition.classes.names; !names.empty()) {
        text += fmt::format("classes     {}\n", log::printable(fmt::format("{}", fmt::join(names, ", "))));
    }
    return text;
}

std::string text_of(const Checkpoint& checkpoint, const Json& json) {
    const Config& config = checkpoint.config;
    const TrainingState& training = checkpoint.training;
    return fmt::format(
        "{}\n"
        "size        {:.1f} MB: {}\n"
        "network     {} parameters, predicts {}; {}s of {}\n"
        "schedule    {}, {} levels\n"
        "trained     {} of {} steps, {} {}s, loss {}, {} bad steps skipped\n"
        "data        {}: {}\n"
        "{}"
        "by          {}\n"
        "config      {}",
        json["checkpoint"].get<std::string>(), json["bytes"].get<double>() / 1e6, contents(checkpoint),
        json["parameters"].get<int64_t>(), config.parameterization.prediction, noun(checkpoint.data.shape),
        to_string(checkpoint.data.shape), config.schedule.kind, config.schedule.steps, checkpoint.step,
        config.train.steps, json["images"].get<int64_t>(), noun(checkpoint.data.shape),
        training.loss ? fmt::format("{:.4f}", *training.loss) : "not yet known", training.bad_steps,
        config.dataset.kind, log::printable(training.fingerprint), about_data(checkpoint),
        log::printable(training.machine), to_text(json["config"]));
}

Result describe_checkpoint(const std::filesystem::path& file, bool as_json) {
    const Checkpoint checkpoint = load_checkpoint(file);
    const Json json = json_of(checkpoint, file);
    return result_of(as_json, json, text_of(checkpoint, json));
}

/// Its size and what it says of how it was made.
Result describe_image(const std::filesystem::path& file, bool as_json) {
    const PngHead head = read_png_head(file);
    Json json;
    json["image"] = display_path(file);
    json["width"] = head.width;
    json["height"] = head.height;
    std::string text = fmt::format("{}\n{:<11} {}x{} pixels", display_path(file), "size", head.width, head.height);
    for (const auto& [keyword, value] : head.texts) {
        json["texts"][keyword] = value;
        text += fmt::format("\n{:<11} {}", log::printable(keyword), log::printable(value));
    }
    if (head.texts.empty()) text += "\n(it does not say how it was made)";
    return result_of(as_json, json, text);
}

/// Tensors and texts of a safetensors file that is no checkpoint, as latents are.
Result describe_tensors(const std::filesystem::path& file, const TensorFile& tensors, bool as_json) {
    Json json;
    json["file"] = display_path(file);
    std::string text = display_path(file);
    for (const auto& [name, tensor] : tensors.tensors) {
        const auto shape = fmt::format("[{}]", fmt::join(tensor.sizes(), ", "));
        json["tensors"][name] = tensor.sizes().vec();
        text += fmt::format("\n{:<11} {}", log::printable(name), shape);
    }
    for (const auto& [key, value] : tensors.metadata) {
        json["texts"][key] = value;
        text += fmt::format("\n{:<11} {}", log::printable(key), log::printable(value));
    }
    return result_of(as_json, json, text);
}

Result describe_file(const std::string& path, bool as_json) {
    const auto file = checkpoint_file(path);
    if (is_png(read_beginning(file, 8))) return describe_image(file, as_json);
    const TensorFile tensors = read_tensor_file(file);
    const bool is_ours = tensors.metadata.contains(kSamplingKey) && !tensors.metadata.contains("format");
    return is_ours ? describe_tensors(file, tensors, as_json) : describe_checkpoint(file, as_json);
}

/// Those of the CPU's flags that decide how fast LibTorch is.
std::vector<std::string> cpu_flags() {
    std::istringstream words(cpu_field("flags") + " " + cpu_field("Features"));
    const std::set<std::string> all{std::istream_iterator<std::string>(words), {}};
    std::vector<std::string> found;
    for (const char* flag :
         {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16"}) {
        if (all.contains(flag)) found.emplace_back(flag);
    }
    return found;
}

Result describe_machine(bool as_json) {
    const auto gpus = gpu_names();
    const std::string cuda = cuda_version(), device = parse_device("auto").str();
    const double memory = double(sysconf(_SC_PHYS_PAGES)) * double(sysconf(_SC_PAGE_SIZE)) / double(1 << 30);
    set_threads(0);
    Json json;
    json["version"] = DIFFUSE_VERSION;
    json["libtorch"] = TORCH_VERSION;
    json["cuda"] = cuda.empty() ? Json() : Json(cuda);
    json["cpu"] = cpu_model();
    json["cpu_flags"] = cpu_flags();
    json["libtorch_uses"] = vector_units();
    json["diffuse_uses"] = kernel_units();
    json["threads"] = at::get_num_threads();
    json["memory_gib"] = memory;
    json["gpus"] = gpus;
    json["device"] = device;
    return result_of(
        as_json, json,
        fmt::format("diffuse {}, LibTorch {} for {}\n"
                    "CPU         {}: {}; LibTorch uses {}, diffuse {}\n"
                    "threads     {}\n"
                    "memory      {:.1f} GiB\n"
                    "GPUs        {}\n"
                    "device      {}: what --device auto takes",
                    DIFFUSE_VERSION, TORCH_VERSION, cuda.empty() ? "the CPU only" : "CUDA " + cuda, cpu_model(),
                    fmt::join(cpu_flags(), " "), vector_units(), kernel_units(), at::get_num_threads(), memory,
                    gpus.empty() ? "none" : fmt::format("{}", fmt::join(gpus, ", ")), device));
}

Result run_info(const InfoCommand& options, const Given&) {
    return options.path.empty() ? describe_machine(options.json) : describe_file(options.path, options.json);
}

std::vector<Option> options_of_info(InfoCommand& o) {
    return {{.field = {"path", &o.path,
                       "checkpoint file, run folder, file of latents or samples, or a PNG file, which tells how it was "
                       "made"},
             .group = "What is described",
             .value = "PATH",
             .positional = true},
            grouped(kWritten, {json_option(o.json)}).front()};
}

}  // namespace

Command info_command() {
    return command_of({.name = "info",
                       .about = "say what a checkpoint or an image is, or with no argument what this machine is",
                       .examples = {"diffuse info", "diffuse info runs/demo"}},
                      InfoCommand(), options_of_info, run_info);
}

}  // namespace diffuse::cli
