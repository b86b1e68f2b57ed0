#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"
#include "diffuse/diffusion/network.hpp"
#include "diffuse/diffusion/schedule.hpp"

namespace diffuse {

/// Which images, times and noise a training step sees: functions of the seed and of the step, so that nothing needs to
/// be remembered to continue from there.

/// The images in the order of training: position p is image p mod N of epoch p div N, each epoch in its own random
/// order.
class DataOrder {
public:
    DataOrder(uint64_t seed, int64_t images) : seed_(seed), images_(images) {}
    /// The images at positions first .. first + count - 1. int64 [count]
    torch::Tensor indices(int64_t first, int64_t count);

private:
    uint64_t seed_;
    int64_t images_, epoch_ = -1;
    std::vector<int64_t> order_;  // of that epoch
};

/// Which levels are trained how often. uniform: t is uniform over 1 .. T. log-normal: log(sigma / alpha) is normal
/// (Karras et al. 2022, arXiv:2206.00364, table 1: mean -1.2, standard deviation 1.2). logit-normal: the same, as the
/// logit of flow's time is log(sigma / alpha) (Esser et al. 2024, arXiv:2403.03206, section 3.1: mean 0, standard
/// deviation 1). one: all at log(sigma / alpha) = mean, as score matching was before it had levels.
struct LevelDensity {
    std::string kind = "uniform";
    std::optional<double> mean, std;
};
std::vector<std::string> level_density_names();

/// The level of each image of a batch, `normalised`: of this density between the schedule's ends, but stratified over
/// the batch, which makes the loss less noisy: one random offset for all (Kingma et al. 2021, arXiv:2107.00630,
/// appendix I.1).
std::vector<NoiseLevel> training_levels(uint64_t seed, int64_t step, int64_t batch, const Schedule& schedule,
                                        const LevelDensity& density = {});

/// The labels of the images at positions first .. first + count - 1, int64 [count]: those given, but for a share
/// `dropout` of them, which are `none` (Ho & Salimans 2022, arXiv:2207.12598, algorithm 1).
torch::Tensor training_labels(uint64_t seed, int64_t first, const torch::Tensor& labels, double dropout, int64_t none);

/// Images of [count, C, H, W] at positions first .. first + count - 1, each second one, as the seed and the position
/// decide, with left and right exchanged.
torch::Tensor flipped(const torch::Tensor& images, uint64_t seed, int64_t first);

/// Directions of sliced score matching, of the examples at positions first .. first + count - 1: float32
/// [count, projections, shape], each entry -1 or 1 with the same probability. Not defined for 0 projections.
torch::Tensor training_directions(uint64_t seed, int64_t first, int64_t count, int64_t projections,
                                  torch::IntArrayRef shape);

/// The noise of the images at positions first .. first + count - 1, each its own. float32 [count, image_shape]
torch::Tensor training_noise(uint64_t seed, int64_t first, int64_t count, torch::IntArrayRef image_shape);

}  // namespace diffuse
