#include "ops/group_norm.hpp"

#include <algorithm>
#include <cmath>

#include "diffuse/ops/plain.hpp"
#include "ops/simd/kernels.hpp"
#include "ops/workspace.hpp"

namespace diffuse {

void measure_groups(const Groups& groups, const Sources& sources, float* sums, float* mean, float* inverse) {
    const double n = double(sources.pixels), size = double(groups.size());
    for (const auto& source : sources) {
        // Of this source behind one another: the first value of each channel, the sums of the deviations from it, and
        // of their squares. They become mean and variance.
        float* const own = sums + 3 * source.first;
        kernels::channel_sums(source.data, sources.pixels, source.channels, own);
        for (int64_t c = 0; c < source.channels; ++c) {
            const double away = double(own[source.channels + c]) / n;
            const double variance = double(own[2 * source.channels + c]) / n - away * away;
            own[source.channels + c] = float(double(own[c]) + away);
            own[2 * source.channels + c] = float(variance);
        }
    }
    const auto at = [&](int64_t c) {
        const auto& source = sources.all[sources.count > 1 && c >= sources.all[1].first ? 1 : 0];
        const float* own = sums + 3 * source.first + source.channels + (c - source.first);
        return std::pair(double(own[0]), double(own[source.channels]));
    };
    for (int64_t g = 0; g < groups.count; ++g) {
        double group_mean = 0, variance = 0;
        const int64_t first = g * groups.size(), end = first + groups.size();
        for (int64_t c = first; c < end; ++c) group_mean += at(c).first / size;
        for (int64_t c = first; c < end; ++c) {
            const auto [own_mean, own_variance] = at(c);
            variance += (own_variance + (own_mean - group_mean) * (own_mean - group_mean)) / size;
        }
        mean[g] = float(group_mean);
        inverse[g] = float(1 / std::sqrt(variance + kNormEpsilon));
    }
}

void affine_of(const Groups& groups, const float* mean, const float* inverse, const float* scale, const float* shift,
               float* a, float* b) {
    for (int64_t c = 0; c < groups.channels; ++c) {
        const int64_t g = c / groups.size();
        a[c] = inverse[g] * scale[c];
        b[c] = shift[c] - mean[g] * a[c];
    }
}

void norm_gradients(const Groups& groups, int64_t pixels, const float* means, const float* inverses, const float* scale,
                    const float* d_sums, const float* dx_sums, const NormGradients& result) {
    const double n = double(pixels * groups.size());
    for (int64_t g = 0; g < groups.count; ++g) {
        const double mean = double(means[g]), inverse = double(inverses[g]);
        const int64_t first = g * groups.size(), end = first + groups.size();
        double m1 = 0, m2 = 0;  // means over the group of the gradient of xhat, and of it times xhat
        for (int64_t c = first; c < end; ++c) {
            const double sum = double(d_sums[c]), of_scale = (double(dx_sums[c]) - mean * sum) * inverse;
            result.scale[c] = float(of_scale);
            result.shift[c] = d_sums[c];
            m1 += double(scale[c]) * sum / n;
            m2 += double(scale[c]) * of_scale / n;
        }
        for (int64_t c = first; c < end; ++c) {
            result.p[c] = float(inverse * double(scale[c]));
            result.q[c] = float(inverse * inverse * m2);
            result.r[c] = float(inverse * m1 - inverse * inverse * mean * m2);
        }
    }
}

void norm_forward(const NormSizes& sizes, const float* x, const float* scale, const float* shift, float* mean,
                  float* inverse, float* y) {
    const auto [images, pixels, channels, count] = sizes;
    const Groups groups{count, channels};
    workspace().reserve(6 * kernels::round_up(channels, 16));
    float* const sums = workspace().take(3 * channels);
    float *const a = workspace().take(channels), *const b = workspace().take(channels);
    float* const none = workspace().take(channels);
    std::fill_n(none, channels, 0.0f);
    for (int64_t i = 0; i < images; ++i, x += pixels * channels, y += pixels * channels) {
        const Sources sources{{{x, channels, 0}, {}}, 1, pixels};
        measure_groups(groups, sources, sums, mean + i * count, inverse + i * count);
        affine_of(groups, mean + i * count, inverse + i * count, scale, shift, a, b);
        for (int64_t c = 0; c < channels; ++c) b[c] = -b[c];
        kernels::affine_backward(x, pixels, channels, x, channels, a, none, b, /*add=*/false, y);
    }
}

void norm_backward(const NormSizes& sizes, const float* x, const float* scale, const float* mean, const float* inverse,
                   float* dy, Into dx, float* of_scale, float* of_shift) {
    const auto [images, pixels, channels, count] = sizes;
    const Groups groups{count, channels};
    workspace().reserve(7 * kernels::round_up(channels, 16));
    float* const sums = workspace().take(2 * channels);
    const auto take = [&, n = channels] { return workspace().take(n); };
    const NormGradients own{take(), take(), take(), take(), take()};
    for (int64_t i = 0; i < images; ++i, x += pixels * channels, dy += pixels * channels) {
        kernels::scaled_sums(x, pixels, channels, nullptr, dy, channels, sums);
        norm_gradients(groups, pixels, mean + i * count, inverse + i * count, scale, sums, sums + channels, own);
        for (int64_t c = 0; c < channels && of_scale; ++c) {
            of_scale[c] += own.scale[c];
            of_shift[c] += own.shift[c];
        }
        if (!dx.to) continue;
        kernels::affine_backward(x, pixels, channels, dy, channels, own.p, own.q, own.r, dx.add,
                                 dx.to + i * pixels * channels);
    }
}

}  // namespace diffuse
