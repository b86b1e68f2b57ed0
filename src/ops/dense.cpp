#include <algorithm>
#include <cstring>

#include "diffuse/ops/plain.hpp"
#include "ops/simd/kernels.hpp"
#include "ops/workspace.hpp"

namespace diffuse {
namespace {

constexpr int64_t kRowsAtOnce = 96;  // of all maps, which so stay in the L2 cache

/// Calls work(first, count) for the rows of a product, some at a time.
template <class Work>
void for_rows(int64_t rows, const Work& work) {
    for (int64_t first = 0; first < rows; first += kRowsAtOnce) work(first, std::min(kRowsAtOnce, rows - first));
}

/// Added to sums [columns]: those of the columns of x [rows, columns].
void add_column_sums(const float* x, int64_t rows, int64_t columns, float* sums) {
    workspace().reserve(3 * columns + 16);
    float* const own = workspace().take(3 * columns);
    for_rows(rows, [&](int64_t first, int64_t count) {
        kernels::channel_sums(x + first * columns, count, columns, own);
        for (int64_t c = 0; c < columns; ++c) sums[c] += float(count) * own[c] + own[columns + c];
    });
}

/// What the 3x3 pixels around every second one hold, [height / 2 * width / 2, 9 in], and back: each adds its share.
template <class Copy>
void for_windows(const HalvingSizes& s, const Copy& copy) {
    int64_t window = 0;
    for (int64_t y = 0; y < s.height; y += 2) {
        for (int64_t x = 0; x < s.width; x += 2, ++window) {
            for (int64_t tap = 0; tap < 9; ++tap) {
                const int64_t row = y + tap / 3 - 1, column = x + tap % 3 - 1;
                const bool inside = row >= 0 && column >= 0 && row < s.height && column < s.width;
                copy((window * 9 + tap) * s.in, inside ? (row * s.width + column) * s.in : -1);
            }
        }
    }
}

void gather_windows(const HalvingSizes& s, const float* x, float* windows) {
    for_windows(s, [&](int64_t window, int64_t pixel) {
        if (pixel < 0) return void(std::fill_n(windows + window, s.in, 0.0f));
        std::memcpy(windows + window, x + pixel, size_t(s.in) * sizeof(float));
    });
}

/// The products that a convolution of stride 2 is, of one image.
DenseSizes of_windows(const HalvingSizes& s) { return {s.height / 2 * (s.width / 2), 9 * s.in, 0, s.out}; }

/// Room for an image's windows, which the products do not use.
float* take_windows(const HalvingSizes& s) {
    thread_local Workspace windows;
    windows.reserve(of_windows(s).rows * 9 * s.in);
    return windows.take(of_windows(s).rows * 9 * s.in);
}

}  // namespace

void pack_dense(const float* weight, int64_t in, int64_t out, bool backward, float* packed) {
    constexpr int64_t kPanel = kernels::kPanel;
    const int64_t inner = backward ? out : in, columns = backward ? in : out;
    const int64_t of_inner = backward ? in : 1, of_column = backward ? 1 : in;
    for (int64_t panel = 0; panel < columns; panel += kPanel) {
        for (int64_t k = 0; k < inner; ++k, packed += kPanel) {
            const float* const from = weight + k * of_inner + panel * of_column;
            for (int64_t c = 0; c < kPanel; ++c) packed[c] = from[c * of_column];
        }
    }
}

void dense_forward(const DenseSizes& sizes, const float* x, const float* skip, const float* packed, const float* bias,
                   bool add, float* y) {
    const auto [rows, of_x, of_skip, out] = sizes;
    const int64_t panel = sizes.in() * kernels::kPanel;
    for_rows(rows, [&, of_x = of_x, of_skip = of_skip, out = out](int64_t first, int64_t count) {
        float* const to = y + first * out;
        for (int64_t r = 0; r < count && add; ++r) {
            for (int64_t c = 0; c < out; ++c) to[r * out + c] += bias[c];
        }
        kernels::multiply(count, of_x, {x + first * of_x, of_x, 1}, {packed, kernels::kPanel, panel}, out,
                          add ? to : bias, add ? out : 0, to, out);
        if (of_skip == 0) return;
        kernels::multiply(count, of_skip, {skip + first * of_skip, of_skip, 1},
                          {packed + of_x * kernels::kPanel, kernels::kPanel, panel}, out, to, out, to, out);
    });
}

void dense_backward(const DenseSizes& sizes, const float* x, const float* skip, const float* packed, const float* dy,
                    Into dx, Into dskip, float* weight, float* bias) {
    const int64_t out = sizes.out, in = sizes.in();
    const auto source = [&](const float* map, int64_t channels, int64_t first_channel, Into into, int64_t first,
                            int64_t count) {
        const float* const d = dy + first * out;
        if (into.to) {
            float* const to = into.to + first * channels;
            kernels::multiply(count, out, {d, out, 1},
                              {packed + first_channel * out, kernels::kPanel, out * kernels::kPanel}, channels,
                              into.add ? to : nullptr, channels, to, channels);
        }
        if (!weight) return;
        float* const of_weight = weight + first_channel;
        kernels::multiply(out, count, {d, 1, out}, {map + first * channels, channels, kernels::kPanel}, channels,
                          of_weight, in, of_weight, in);
    };
    for_rows(sizes.rows, [&](int64_t first, int64_t count) {
        source(x, sizes.x, 0, dx, first, count);
        if (sizes.skip > 0) source(skip, sizes.skip, sizes.x, dskip, first, count);
    });
    if (bias) add_column_sums(dy, sizes.rows, out, bias);
}

void halving_forward(const HalvingSizes& sizes, const float* x, const float* packed, const float* bias, float* y) {
    const DenseSizes products = of_windows(sizes);
    float* const windows = take_windows(sizes);
    for (int64_t i = 0; i < sizes.images; ++i) {
        gather_windows(sizes, x + i * sizes.height * sizes.width * sizes.in, windows);
        dense_forward(products, windows, nullptr, packed, bias, /*add=*/false, y + i * products.rows * sizes.out);
    }
}

void halving_backward(const HalvingSizes& sizes, const float* x, const float* packed, const float* dy, Into dx,
                      float* weight, float* bias) {
    const DenseSizes products = of_windows(sizes);
    const int64_t size = sizes.height * sizes.width * sizes.in;
    float* const windows = take_windows(sizes);
    for (int64_t i = 0; i < sizes.images; ++i) {
        const float* const d = dy + i * products.rows * sizes.out;
        gather_windows(sizes, x + i * size, windows);
        dense_backward(products, windows, nullptr, packed, d, {}, {}, weight, bias);
        if (!dx.to) continue;
        dense_backward(products, nullptr, nullptr, packed, d, {windows}, {}, nullptr, nullptr);
        float* const to = dx.to + i * size;
        if (!dx.add) std::fill_n(to, size, 0.0f);
        for_windows(sizes, [&](int64_t window, int64_t pixel) {
            for (int64_t c = 0; c < sizes.in && pixel >= 0; ++c) to[pixel + c] += windows[window + c];
        });
    }
}

}  // namespace diffuse
