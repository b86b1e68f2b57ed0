#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <atomic>
#include <csignal>

#include "cli/common.hpp"
#include "diffuse/base/device.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/run/machine.hpp"
#include "diffuse/run/model.hpp"
#include "diffuse/run/trainer.hpp"

namespace diffuse::cli {
namespace {

struct Options {
    std::string config;
    std::vector<std::string> settings;
    std::string out, resume;
    bool force = false, dry_run = false;
    std::optional<int64_t> seed;
    RuntimeOptions runtime;
};

std::atomic<int> received_signal{0};

/// The first signal asks training to stop after the step; a second ends the program at once. A terminal that goes away
/// counts too. Signals that the program was started not to mind (nohup, a job in the background) stay so.
void stop_on_signals() {
    struct sigaction action {
    }, before{};
    action.sa_handler = [](int signal) { received_signal = signal; };
    action.sa_flags = SA_RESETHAND;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
        sigaction(signal, nullptr, &before);
        if (before.sa_handler != SIG_IGN) sigaction(signal, &action, nullptr);
    }
}

void print_plan(const Config& config, const Dataset& dataset) {
    const UNet network = new_network(config, dataset.shape(), torch::kCPU);
    print_result(/*as_json=*/false, {}, to_text(to_json(config), 2));
    log::info(fmt::format("{} images of {}, {} parameters, {:.1f} epochs; nothing was written", dataset.size(),
                          to_string(dataset.shape()), network.parameter_count(),
                          double(config.train.steps * config.train.batch_size) / double(dataset.size())));
}

/// Trains to the end or to a signal, and says where the result is.
void run_training(const Config& config, const Dataset& dataset, torch::Device device, const RunFolder& folder,
                  const std::optional<Checkpoint>& start) {
    stop_on_signals();
    log::debug(describe(device));
    const Stopwatch watch;
    const int64_t saved = train(config, dataset, device, folder, start, [] { return received_signal != 0; });
    const std::string path = display_path(folder.path());
    if (saved < config.train.steps) {
        throw Error(fmt::format("interrupted; step {} of {} is saved; resume it by: diffuse train --resume {}", saved,
                                config.train.steps, path),
                    ExitCode(128 + received_signal));
    }
    log::info(
        fmt::format("trained {} steps in {}", saved - (start ? start->step : 0), format_duration(watch.seconds())));
    print_result(/*as_json=*/false, {}, path);
}

void start_run(const Options& options, torch::Device device) {
    Config config = load_config(options.config, options.settings);
    if (options.seed) config.seed = *options.seed;
    const Dataset dataset = load_dataset(config.dataset, Split::kTrain);
    config = with_classes(config, dataset);
    if (options.dry_run) return print_plan(config, dataset);

    const std::string name = std::filesystem::path(options.config).stem().string();
    const std::filesystem::path out =
        options.out.empty() ? std::filesystem::path("runs") / name : std::filesystem::path(options.out);
    // Refuses a config that does not fit the images before anything is written.
    const UNet network = new_network(config, dataset.shape(), torch::kCPU);
    const auto folder = RunFolder::create(out, options.force);
    log::open_file(folder.path() / kLogName);
    log::info(fmt::format("training {} parameters on {} images for {} steps of {}, on {} with {} threads",
                          network.parameter_count(), dataset.size(), config.train.steps, config.train.batch_size,
                          device.str(), at::get_num_threads()));
    run_training(config, dataset, device, folder, std::nullopt);
}

void resume_run(const Options& options, torch::Device device) {
    const auto folder = RunFolder::open(options.resume);
    log::open_file(folder.path() / kLogName);
    const std::string path = display_path(folder.path());
    std::optional<Checkpoint> start;
    if (path_exists(folder.path() / kCheckpointName)) start = load_checkpoint(folder.path());
    const Config before = start ? start->config : load_config(folder.path() / kConfigName);
    const bool as_before = options.config.empty() && options.settings.empty();
    Config config = as_before                ? before
                    : options.config.empty() ? with_settings(before, options.settings)
                                             : load_config(options.config, options.settings);
    if (options.seed) config.seed = *options.seed;
    if (!config.unet.classes) config.unet.classes = before.unet.classes;  // the data cannot change
    for (const auto& change : allowed_changes(before, config)) {
        log::info(fmt::format("{}: {}, was {}", change.path, change.after, change.before));
    }
    if (start && start->step >= config.train.steps) {
        log::info(fmt::format("{} is finished: {} steps of {}; for more: diffuse train --resume {} --set train.steps=N",
                              path, start->step, config.train.steps, path));
        print_result(/*as_json=*/false, {}, path);
        return;
    }
    const Dataset dataset = load_dataset(config.dataset, Split::kTrain);
    if (start) {
        log::info(fmt::format(
            "{}: resuming after step {} of {}, {:.2f} epochs in; weights, average, optimizer, learning rate and order "
            "of the data as they were",
            path, start->step, config.train.steps,
            double(start->step * config.train.batch_size) / double(dataset.size())));
    } else {
        log::info(fmt::format("{}: it has no checkpoint; beginning with its first step", path));
    }
    run_training(config, dataset, device, folder, start);
}

void run(const Options& options) {
    if (options.resume.empty() && options.config.empty()) {
        throw Error("train needs --config FILE, or --resume RUN_DIR (see diffuse train --help)");
    }
    const auto device = options.runtime.apply();
    return options.resume.empty() ? start_run(options, device) : resume_run(options, device);
}

std::string keys_help() {
    Config defaults;
    const Fields keys = leaves(fields(defaults));
    const auto values = to_json(keys);
    std::string text = "Keys of the config, with their defaults:\n";
    for (const auto& key : keys) {
        text += fmt::format("  {:<29} {:<9} {} [{}]\n", key.key, to_text(values[key.key]), key.meaning, expected(key));
    }
    return text;
}

}  // namespace

void add_train(CLI::App& app) {
    auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand("train", "train a network as a JSON config says");
    command->add_option("--config", options->config, "JSON file, e.g. configs/demo.json");
    command
        ->add_option("--set", options->settings,
                     "override one key of the config, e.g. train.steps=100; may be repeated")
        ->take_all();
    auto* out = command->add_option("--out", options->out, "run folder; default runs/<name of the config>");
    auto* force = command->add_flag("--force", options->force, "replace a run that is already in the folder");
    auto* dry_run =
        command->add_flag("--dry-run", options->dry_run, "check everything, print the resolved config, write nothing");
    command
        ->add_option("--resume", options->resume,
                     "resume the run in this folder (default: the current one) as if it had never stopped, by its "
                     "own config unless --config or --set change what may change")
        ->expected(0, 1)
        ->default_str(".")
        ->excludes(out)
        ->excludes(force)
        ->excludes(dry_run);
    command->add_option("--seed", options->seed, "random seed, instead of the config's")
        ->check(range<int64_t>(0, INT64_MAX));
    options->runtime.add_to(*command);
    command->footer(keys_help);
    command->callback([options] { run(*options); });
}

}  // namespace diffuse::cli
