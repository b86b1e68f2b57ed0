#include "diffuse/train/batch.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "diffuse/base/error.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

/// Mean and standard deviation of log(sigma / alpha) by default; none for the uniform density of t. No spread: one.
const Table<std::optional<std::pair<double, double>>>& level_densities() {
    static const Table<std::optional<std::pair<double, double>>> table = {
        {"uniform", std::nullopt}, {"log-normal", {{-1.2, 1.2}}}, {"logit-normal", {{0, 1}}}, {"one", {{0, 0}}}};
    return table;
}

/// x with a share `fraction` of the standard normal distribution below it.
double normal_quantile(double fraction) {
    return std::numbers::sqrt2 * torch::erfinv(torch::tensor(2 * fraction - 1, torch::kFloat64)).item<double>();
}

/// The level at this log(sigma / alpha), or the schedule's nearest end.
NoiseLevel level_at(const Schedule& schedule, double log_ratio) {
    return schedule.at(schedule.time_at(-2 * log_ratio));
}

}  // namespace

torch::Tensor DataOrder::indices(int64_t first, int64_t count) {
    auto result = torch::empty({count}, torch::kInt64);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t epoch = (first + i) / images_;
        if (epoch != epoch_) order_ = permutation(images_, {seed_, Purpose::kPermutation, uint64_t(epoch)});
        epoch_ = epoch;
        result.data_ptr<int64_t>()[i] = order_[size_t((first + i) % images_)];
    }
    return result;
}

std::vector<std::string> level_density_names() { return names(level_densities()); }

std::vector<NoiseLevel> training_levels(uint64_t seed, int64_t step, int64_t batch, const Schedule& schedule,
                                        const LevelDensity& density) {
    const auto& normal = look_up("density of levels", level_densities(), density.kind);
    const double offset = Random({seed, Purpose::kTrainingTime, uint64_t(step)}).uniform();
    std::vector<NoiseLevel> levels;
    for (int64_t i = 0; i < batch; ++i) {
        const double fraction = std::fmod(offset + double(i) / double(batch), 1.0);
        if (normal) {
            const double std = density.std.value_or(normal->second);
            const double mean = density.mean.value_or(normal->first);
            // Without std the quantile, which may be infinite, says nothing.
            levels.push_back(level_at(schedule, std == 0 ? mean : mean + std * normal_quantile(fraction)));
        } else {
            const int64_t t = std::min(schedule.steps(), 1 + int64_t(fraction * double(schedule.steps())));
            levels.push_back(schedule.at(double(t)));
        }
        levels.back() = normalised(levels.back());
    }
    return levels;
}

torch::Tensor training_labels(uint64_t seed, int64_t first, const torch::Tensor& labels, double dropout, int64_t none) {
    auto result = labels.clone();
    for (int64_t i = 0; i < labels.size(0); ++i) {
        Random random({seed, Purpose::kLabelDropout, uint64_t(first + i)});
        if (random.uniform() < dropout) result.data_ptr<int64_t>()[i] = none;
    }
    return result;
}

torch::Tensor flipped(const torch::Tensor& images, uint64_t seed, int64_t first) {
    constexpr int64_t kColumns = 3;
    auto mirrored = torch::empty({images.size(0)}, torch::kBool);
    for (int64_t i = 0; i < images.size(0); ++i) {
        mirrored[i] = (Random({seed, Purpose::kAugmentation, uint64_t(first + i)}).bits() & 1) != 0;
    }
    return torch::where(mirrored.view({-1, 1, 1, 1}).to(images.device()), images.flip(kColumns), images);
}

torch::Tensor training_directions(uint64_t seed, int64_t first, int64_t count, int64_t projections,
                                  torch::IntArrayRef shape) {
    if (projections == 0) return {};
    std::vector<int64_t> each = {projections};
    each.insert(each.end(), shape.begin(), shape.end());
    return normal_images(seed, Purpose::kDirection, first, count, each, /*draw=*/0).sign();
}

torch::Tensor training_noise(uint64_t seed, int64_t first, int64_t count, torch::IntArrayRef image_shape) {
    return normal_images(seed, Purpose::kTrainingNoise, first, count, image_shape, /*draw=*/0);
}

}  // namespace diffuse
