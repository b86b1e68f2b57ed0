#include "cli/sample.hpp"
#include "diffuse/base/file.hpp"

namespace diffuse::cli {
namespace {

void require_one_source(const SampleCommand& options) {
    if (options.analytic.empty()) {
        if (options.checkpoint.empty()) throw Error("--checkpoint is required, or --analytic with --config");
        if (!options.config.empty()) throw Error("--config belongs to --analytic; a checkpoint has its own");
    } else if (options.checkpoint.empty() == options.config.empty()) {
        throw Error("--analytic takes its data and schedule from --config or from --checkpoint; give one of them");
    }
    if (!options.settings.empty() && options.config.empty()) throw Error("--set belongs to --config");
}

Source network_source(const SampleCommand& options, torch::Device device) {
    const auto checkpoint = std::make_shared<const Checkpoint>(load_to_run(options.checkpoint, device));
    return {.sample = checkpoint->config.sample,
            .data = checkpoint->data,
            .schedule = make_schedule(checkpoint->config.schedule),
            .model = [=](const std::string& weights) { return make_model(*checkpoint, weights, device); },
            .identity = [=](const std::string& weights) { return diffuse::identity(*checkpoint, weights); },
            .made_from = {"checkpoint", display_path(checkpoint_file(options.checkpoint))}};
}

/// Of no class, so without guidance.
Source analytic_source(const SampleCommand& options) {
    const Config config = options.config.empty() ? load_checkpoint(options.checkpoint).config
                                                 : load_config(options.config, options.settings);
    const Dataset data = load_dataset(config.dataset, Split::kTrain);
    const Model model = analytic_model(options.analytic, config, data);
    SampleOptions sample = config.sample;
    sample.guidance = 1;
    return {.sample = without_idle(sample),
            .data = model.data,
            .schedule = model.schedule,
            .model = [=](const std::string&) { return model; },
            .identity = [=](const std::string&) { return "the denoiser " + options.analytic + " in closed form"; },
            .made_from = {"data", fingerprint(data)}};
}

}  // namespace

Source load_source(const SampleCommand& options, torch::Device device) {
    require_one_source(options);
    return options.analytic.empty() ? network_source(options, device) : analytic_source(options);
}

}  // namespace diffuse::cli
