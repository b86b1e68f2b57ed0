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

/// What a checkpoint is. Builds its network too, so that one that cannot be used is found out.
void describe_checkpoint(const std::string& path, bool as_json) {
    const auto file = checkpoint_file(path);
    const Checkpoint checkpoint = load_checkpoint(file);
    make_network(checkpoint, "ema", torch::kCPU);
    const int64_t parameters = make_network(checkpoint, "raw", torch::kCPU).parameter_count();
    const TrainOptions& train = checkpoint.config.train;
    const TrainingState& training = checkpoint.training;
    const int64_t images = checkpoint.step * train.batch_size;
    const auto bytes = std::filesystem::file_size(file);

    Json json;
    json["checkpoint"] = display_path(file);
    json["bytes"] = bytes;
    json["step"] = checkpoint.step;
    json["steps"] = train.steps;
    json["images"] = images;
    json["loss"] = training.loss ? Json(*training.loss) : Json();
    json["bad_steps"] = training.bad_steps;
    json["parameters"] = parameters;
    json["ema_decay"] = train.ema_decay;
    json["image_shape"] = checkpoint.shape.sizes();
    json["data"] = training.data;
    json["machine"] = training.machine;
    json["config"] = to_json(checkpoint.config);
    const std::string text = fmt::format(
        "{}\n"
        "size        {:.1f} MB: weights, their average (EMA, decay {}) and AdamW's two means\n"
        "network     {} parameters, predicts {}; images of {}\n"
        "schedule    {}, {} levels\n"
        "trained     {} of {} steps, {} images, loss {}, {} bad steps skipped\n"
        "data        {}: {}\n"
        "by          {}\n"
        "config      {}",
        display_path(file), double(bytes) / 1e6, train.ema_decay, parameters,
        checkpoint.config.parameterization.prediction, to_string(checkpoint.shape), checkpoint.config.schedule.kind,
        checkpoint.config.schedule.steps, checkpoint.step, train.steps, images,
        training.loss ? fmt::format("{:.4f}", *training.loss) : "not yet known", training.bad_steps,
        checkpoint.config.dataset.kind, training.data, training.machine, to_text(to_json(checkpoint.config)));
    print_result(as_json, json, text);
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
    command->callback([options] {
        if (options->path.empty())
            describe_machine(options->json);
        else
            describe_checkpoint(options->path, options->json);
    });
}

}  // namespace diffuse::cli
