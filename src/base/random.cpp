#include "diffuse/base/random.hpp"

#include <ATen/Parallel.h>
#include <c10/util/accumulate.h>

#include <cmath>
#include <numbers>
#include <numeric>

namespace diffuse {
namespace {

constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;
constexpr int64_t kGrain = 16384;  // numbers that are worth a thread of their own

/// One block of Philox4x32-10: four uniform words from a 128-bit counter and a 64-bit key.
void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
        const uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
        c0 = n0, c1 = uint32_t(p1), c2 = n2, c3 = uint32_t(p0);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/// Counter words: block, draw, index (low 32 bits), index (high 24 bits) and purpose. Key words: the seed.
void set_counter(const Key& key, uint32_t counter[4], uint32_t words[2]) {
    TORCH_INTERNAL_ASSERT(key.index < (uint64_t{1} << 56));
    counter[0] = 0, counter[1] = key.draw;
    counter[2] = uint32_t(key.index), counter[3] = uint32_t(key.index >> 32) | uint32_t(key.purpose) << 24;
    words[0] = uint32_t(key.seed), words[1] = uint32_t(key.seed >> 32);
}

/// Two words to two normals. The half added keeps the logarithm's argument inside (0, 1).
void box_muller(uint32_t a, uint32_t b, float& z0, float& z1) {
    const double radius = std::sqrt(-2.0 * std::log((a + 0.5) * kTwoToMinus32));
    const double angle = 2.0 * std::numbers::pi * (b * kTwoToMinus32);
    z0 = float(radius * std::cos(angle)), z1 = float(radius * std::sin(angle));
}

}  // namespace

Random::Random(const Key& key) { set_counter(key, counter_, key_); }

uint32_t Random::bits() {
    if (used_ == 4) {
        philox(counter_, key_, block_);
        ++counter_[0];
        used_ = 0;
    }
    return block_[used_++];
}

double Random::uniform() { return bits() * kTwoToMinus32; }

double Random::uniform(double low, double high) { return low + (high - low) * uniform(); }

uint64_t Random::below(uint64_t bound) {
    // Lemire 2019: the high half of a 64-bit product, rejecting the few low halves that would be drawn too often.
    TORCH_INTERNAL_ASSERT(bound > 0 && bound <= UINT32_MAX);
    const uint32_t rejected = uint32_t(-uint32_t(bound)) % uint32_t(bound);
    while (true) {
        const uint64_t product = uint64_t{bits()} * bound;
        if (uint32_t(product) >= rejected) return product >> 32;
    }
}

double Random::normal() {
    float z0, z1;
    const uint32_t a = bits(), b = bits();
    box_muller(a, b, z0, z1);
    return z0;
}

void fill_normal(float* out, int64_t count, const Key& key) {
    uint32_t base[4], words[2];
    set_counter(key, base, words);
    at::parallel_for(0, (count + 3) / 4, kGrain / 4, [&](int64_t begin, int64_t end) {
        for (int64_t block = begin; block < end; ++block) {
            const uint32_t counter[4] = {uint32_t(block), base[1], base[2], base[3]};
            uint32_t bits[4];
            float z[4];
            philox(counter, words, bits);
            box_muller(bits[0], bits[1], z[0], z[1]);
            box_muller(bits[2], bits[3], z[2], z[3]);
            std::copy_n(z, std::min<int64_t>(4, count - 4 * block), out + 4 * block);
        }
    });
}

torch::Tensor normal(torch::IntArrayRef shape, const Key& key) {
    auto result = torch::empty(shape, torch::kFloat32);
    fill_normal(result.data_ptr<float>(), result.numel(), key);
    return result;
}

torch::Tensor normal_images(uint64_t seed, Purpose purpose, int64_t first, int64_t count,
                            torch::IntArrayRef image_shape, int64_t draw) {
    std::vector<int64_t> shape = {count};
    shape.insert(shape.end(), image_shape.begin(), image_shape.end());
    auto noise = torch::empty(shape);
    const int64_t numbers = c10::multiply_integers(image_shape);
    float* const out = noise.data_ptr<float>();
    at::parallel_for(0, count, 1 + kGrain / (1 + numbers), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            fill_normal(out + i * numbers, numbers, {seed, purpose, uint64_t(first + i), uint32_t(draw)});
    });
    return noise;
}

std::vector<int64_t> permutation(int64_t count, const Key& key) {
    std::vector<int64_t> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), int64_t{0});
    Random random(key);
    for (int64_t i = count - 1; i > 0; --i) std::swap(order[size_t(i)], order[random.below(uint64_t(i) + 1)]);
    return order;
}

}  // namespace diffuse
