#include "diffuse/train/batch.hpp"

#include <algorithm>
#include <cmath>

#include "diffuse/base/random.hpp"

namespace diffuse {

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

std::vector<NoiseLevel> training_levels(uint64_t seed, int64_t step, int64_t batch, const Schedule& schedule) {
    const double offset = Random({seed, Purpose::kTrainingTime, uint64_t(step)}).uniform();
    std::vector<NoiseLevel> levels;
    for (int64_t i = 0; i < batch; ++i) {
        const double fraction = std::fmod(offset + double(i) / double(batch), 1.0);
        const int64_t t = std::min(schedule.steps(), 1 + int64_t(fraction * double(schedule.steps())));
        levels.push_back(schedule.at(double(t)));
    }
    return levels;
}

Condition training_labels(uint64_t seed, int64_t first, const torch::Tensor& labels, double dropout, int64_t none) {
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

torch::Tensor training_noise(uint64_t seed, int64_t first, int64_t count, torch::IntArrayRef image_shape) {
    return normal_images(seed, Purpose::kTrainingNoise, first, count, image_shape, /*draw=*/0);
}

}  // namespace diffuse
