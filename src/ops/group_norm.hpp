#pragma once

#include <cstdint>

/// Group normalisation (Wu & He 2018, arXiv:1803.08494) of one image, xhat = (x - mean) inverse, and its gradient: what
/// the operators that normalise have in common.
namespace diffuse {

inline constexpr double kNormEpsilon = 1e-5;  ///< LibTorch's default

/// A map, or two side by side as if concatenated along the channels: of one image.
struct Sources {
    struct Source {
        const float* data;
        int64_t channels, first;  ///< its channels are first .. first + channels - 1 of all
    };
    Source all[2];
    int64_t count, pixels;
    const Source* begin() const { return all; }
    const Source* end() const { return all + count; }
};

struct Groups {
    int64_t count, channels;  ///< channels of all groups
    int64_t size() const { return channels / count; }
};

/// mean and inverse: [groups]. sums: room for 3 numbers a channel.
void measure_groups(const Groups& groups, const Sources& sources, float* sums, float* mean, float* inverse);

/// The normalisation with scale and shift as one: a x + b.
void affine_of(const Groups& groups, const float* mean, const float* inverse, const float* scale, const float* shift,
               float* a, float* b);

/// From the sums over the pixels of the gradient d of scale xhat + shift, and of d x: the gradients of scale and shift,
/// and p, q, r with the gradient of x = p d - q x - r, each [channels].
struct NormGradients {
    float *scale, *shift, *p, *q, *r;
};
void norm_gradients(const Groups& groups, int64_t pixels, const float* mean, const float* inverse, const float* scale,
                    const float* d_sums, const float* dx_sums, const NormGradients& result);

}  // namespace diffuse
