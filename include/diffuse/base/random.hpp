#pragma once

#include <cstdint>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Randomness is a function, not a state: every number drawn is a function of (seed, purpose, index, draw), by the
/// counter-based generator Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). So a
/// checkpoint holds no generator, and an image's noise depends neither on the batch it is in nor on the thread count.

/// What a random number is for. Append only: the values go into every number drawn, so a change of one would change
/// the images, orders and noise of all runs, and a resumed run would not continue as it began.
enum class Purpose : uint8_t {
    kDigit = 0,
    kLabel = 1,
    kPermutation = 2,
    kTrainingTime = 3,
    kTrainingNoise = 4,
    kDropout = 5,
    kSamplingNoise = 6,
    kInitialWeights = 7,
    kAugmentation = 8,
    kDequantisation = 9,
    kBoundNoise = 10,
    kProbe = 11,
    kLabelDropout = 12,
    kValidationNoise = 13,
    kLab = 14,
    kToy = 15,
    kPrior = 16,
    kSimulation = 17,
    kPosterior = 18,
    kTwoSample = 19,
    kDirection = 20,
};

struct Key {
    uint64_t seed = 0;
    Purpose purpose = Purpose::kDigit;
    uint64_t index = 0;  ///< which step, epoch, image, ...; below 2^56
    uint32_t draw = 0;   ///< which draw for that index, e.g. the solver's step
};

/// A sequence of random numbers that starts at the beginning of `key`; for code that draws a few at a time.
class Random {
public:
    explicit Random(const Key& key);
    uint32_t bits();                          ///< uniform over 0 .. 2^32 - 1
    double uniform();                         ///< uniform over [0, 1)
    double uniform(double low, double high);  ///< uniform over [low, high)
    uint64_t below(uint64_t bound);           ///< uniform over 0 .. bound - 1, without modulo bias
    double normal();                          ///< standard normal
private:
    uint32_t counter_[4];
    uint32_t key_[2];
    uint32_t block_[4];
    int used_ = 4;
};

/// Fills out[0..count) with standard normal numbers (Box-Muller), on all threads; the result depends on `key` alone.
void fill_normal(float* out, int64_t count, const Key& key);

/// float32 tensor of independent standard normal numbers, on the CPU.
torch::Tensor normal(torch::IntArrayRef shape, const Key& key);

/// Noise of a batch, each image's a function of its own index: images first .. first + count - 1. On all threads.
/// Returns float32 [count, image_shape].
torch::Tensor normal_images(uint64_t seed, Purpose purpose, int64_t first, int64_t count,
                            torch::IntArrayRef image_shape, int64_t draw);

/// A uniformly random permutation of 0 .. count-1 (Fisher-Yates).
std::vector<int64_t> permutation(int64_t count, const Key& key);

}  // namespace diffuse
