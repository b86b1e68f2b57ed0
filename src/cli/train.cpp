#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <atomic>
#include <csignal>

#include "common.hpp"
#include "diffuse/file.hpp"
#include "diffuse/trainer.hpp"

namespace diffuse::cli {
namespace {

struct Options {
    std::string config;
    std::vector<std::string> settings;
    std::string out;
    bool force = false, dry_run = false;
    std::optional<int64_t> seed;
    RuntimeOptions runtime;
};

std::atomic<int> received_signal{0};

/// The first signal asks training to stop after the step; the second ends the program as usual.
void stop_on_signals() {
    struct sigaction action {};
    action.sa_handler = [](int signal) { received_signal = signal; };
    action.sa_flags = SA_RESETHAND;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

void print_plan(const Config& config, const Dataset& dataset) {
    const UNet network(config.model, dataset.shape(), /*seed=*/0, torch::kCPU);
    fmt::print("{}\n", to_json(config).dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    log_line(fmt::format("{} images of {}x{}x{}, {} parameters, {:.1f} epochs; nothing was written", dataset.size(),
                         dataset.shape().channels, dataset.shape().height, dataset.shape().width,
                         network.parameter_count(),
                         double(config.train.steps * config.train.batch_size) / double(dataset.size())));
}

void run(const Options& options) {
    const auto device = options.runtime.apply();
    Config config = load_config(options.config, options.settings);
    if (options.seed) config.seed = *options.seed;
    const Dataset dataset = load_dataset(config.dataset, Split::kTrain);
    if (options.dry_run) return print_plan(config, dataset);

    const std::string name = std::filesystem::path(options.config).stem().string();
    const std::filesystem::path out =
        options.out.empty() ? std::filesystem::path("runs") / name : std::filesystem::path(options.out);
    const UNet network(config.model, dataset.shape(), /*seed=*/0,
                       torch::kCPU);  // refuses a config that does not fit before anything is written
    const auto folder = RunFolder::create(out, options.force);
    log_line(fmt::format("training {} parameters on {} images for {} steps of {}, on {} with {} threads",
                         network.parameter_count(), dataset.size(), config.train.steps, config.train.batch_size,
                         device.str(), at::get_num_threads()));
    stop_on_signals();
    const Stopwatch watch;
    const int64_t steps = train(config, dataset, device, folder, [] { return received_signal != 0; });
    if (steps < config.train.steps) {
        throw Error(fmt::format("interrupted after step {} of {}; what was learned is in {}", steps, config.train.steps,
                                display_path(out)),
                    ExitCode(128 + received_signal));
    }
    log_line(fmt::format("trained {} steps in {}", steps, format_duration(watch.seconds())));
    fmt::print("{}\n", display_path(out));
}

std::string keys_help() {
    std::string text = "Keys of the config, with their defaults:\n";
    for (const auto& key : config_keys()) {
        text += fmt::format("  {:<29} {:<9} {} [{}]\n", key.path, key.default_value, key.meaning, key.range);
    }
    return text;
}

}  // namespace

void add_train(CLI::App& app) {
    auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand("train", "train a network as a JSON config says");
    command->add_option("--config", options->config, "JSON file, e.g. configs/demo.json")->required();
    command
        ->add_option("--set", options->settings,
                     "override one key of the config, e.g. train.steps=100; may be repeated")
        ->take_all();
    command->add_option("--out", options->out, "run folder; default runs/<name of the config>");
    command->add_flag("--force", options->force, "replace a run that is already in the folder");
    command->add_option("--seed", options->seed, "override the config's seed")
        ->check(CLI::Range(int64_t{0}, INT64_MAX));
    command->add_flag("--dry-run", options->dry_run, "check everything, print the resolved config, write nothing");
    options->runtime.add_to(*command);
    command->footer(keys_help);
    command->callback([options] { run(*options); });
}

}  // namespace diffuse::cli
