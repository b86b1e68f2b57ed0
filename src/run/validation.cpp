#include "diffuse/run/validation.hpp"

#include <ATen/Parallel.h>

#include "diffuse/base/device.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/train/batch.hpp"

namespace diffuse {
namespace {

constexpr int64_t kMaxValidation = 1024, kValidationGroup = 16;  // examples

/// The first test examples, as the network sees them.
Dataset held_out(const DatasetOptions& options, const DataSpec& data) {
    const Dataset test = in_terms_of(data, load_dataset(options, Split::kTest), "the test split");
    return test.part(0, std::min(kMaxValidation, test.size()));
}

/// The held-out examples first .. first + levels.size() - 1, each with noise of its own.
Batch held_out_batch(const Dataset& all, int64_t first, const std::vector<NoiseLevel>& levels, const Config& config,
                     const DataSpec& data, torch::Device device) {
    const auto seed = uint64_t(config.seed);
    const auto shape = data.shape.sizes();
    const int64_t count = std::ssize(levels);
    const Dataset some = all.part(first, count);
    const auto eps = normal_images(seed, Purpose::kValidationNoise, first, count, shape, /*draw=*/0);
    return {to_device(to_network(some.examples), device), to_device(eps, device), levels, some.condition.to(device),
            to_device(training_directions(seed, first, count, config.train.directions(), shape), device)};
}

}  // namespace

Validation make_validation(const Config& config, const DataSpec& data, const Objective& objective,
                           const Schedule& schedule, torch::Device device) {
    const Dataset examples = held_out(config.dataset, data);
    const int64_t count = examples.size(), threads = at::get_num_threads();
    const auto levels = training_levels(uint64_t(config.seed), /*step=*/0, count, schedule, config.train.levels);
    return [=](const Network& network) {
        const torch::NoGradGuard no_grad;
        auto losses = torch::empty({count});
        for_each_group(count, kValidationGroup, device, threads, [&](int64_t first, int64_t size) {
            const torch::NoGradGuard on_this_thread;
            const std::vector<NoiseLevel> own(levels.begin() + first, levels.begin() + first + size);
            losses.narrow(0, first, size)
                .copy_(objective(network, held_out_batch(examples, first, own, config, data, device)));
        });
        return losses.mean().item<double>();
    };
}

}  // namespace diffuse
