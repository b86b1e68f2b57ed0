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
#include "diffuse/run/machine.hpp"
#include "diffuse/run/model.hpp"

namespace diffuse::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
    std::string path;
    bool json = false;
};

Json json_of(const Checkpoint& checkpoint, const std::filesystem::path& file, int64_t parameters) {
    const TrainingState& training = checkpoint.training;
    Json json;
    json["checkpoint"] = display_path(file);
    json["bytes"] = std::filesystem::file_size(file);
    json["step"] = checkpoint.step;
    json["steps"] = checkpoint.config.train.steps;
    json["images"] = checkpoint.step * checkpoint.config.train.batch_size;
    json["loss"] = training.loss ? Json(*training.loss) : Json();
    json["bad_steps"] = training.bad_steps;
    json["parameters"] = parameters;
    json["ema_decay"] = checkpoint.config.train.ema_decay;
    json["image_shape"] = checkpoint.shape.sizes();
    json["data"] = training.data;
    json["machine"] = training.machine;
    json["config"] = to_json(checkpoint.config);
    return json;
}

std::string text_of(const Checkpoint& checkpoint, const Json& json) {
    const Config& config = checkpoint.config;
    const TrainingState& training = checkpoint.training;
    return fmt::format(
        "{}\n"
        "size        {:.1f} MB: weights, their average (EMA, decay {}) and what the optimizers remember\n"
        "network     {} parameters, predicts {}; images of {}\n"
        "schedule    {}, {} levels\n"
        "trained     {} of {} steps, {} images, loss {}, {} bad steps skipped\n"
        "data        {}: {}\n"
        "by          {}\n"
        "config      {}",
        json["checkpoint"].get<std::string>(), json["bytes"].get<double>() / 1e6, config.train.ema_decay,
        json["parameters"].get<int64_t>(), config.parameterization.prediction, to_string(checkpoint.shape),
        config.schedule.kind, config.schedule.steps, checkpoint.step, config.train.steps, json["images"].get<int64_t>(),
        training.loss ? fmt::format("{:.4f}", *training.loss) : "not yet known", training.bad_steps,
        config.dataset.kind, training.data, training.machine, to_text(json["config"]));
}

/// What a checkpoint is. Builds its networks too, so that one that cannot be used is found out.
void describe_checkpoint(const std::string& path, bool as_json) {
    const Checkpoint checkpoint = load_checkpoint(path);
    make_network(checkpoint, "ema", torch::kCPU);
    const int64_t parameters = make_network(checkpoint, "raw", torch::kCPU).parameter_count();
    const Json json = json_of(checkpoint, checkpoint_file(path), parameters);
    print_result(as_json, json, text_of(checkpoint, json));
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

void describe_machine(bool as_json) {
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
    print_result(
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

}  // namespace

void add_info(CLI::App& app) {
    auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand("info", "say what a checkpoint is, or with no argument what this machine is");
    command->add_option("path", options->path, "checkpoint file or run folder");
    command->add_flag("--json", options->json, "print the result as one JSON object");
    command->callback([options, command] {
        if (command->count("path") == 0) return describe_machine(options->json);
        if (options->path.empty()) throw Error("the path is empty; name a checkpoint or a run folder");
        describe_checkpoint(options->path, options->json);
    });
}

}  // namespace diffuse::cli
