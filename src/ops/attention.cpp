#include <cmath>

#include "diffuse/ops/plain.hpp"
#include "ops/simd/kernels.hpp"
#include "ops/workspace.hpp"

namespace diffuse {
namespace {

using kernels::kPanel;

/// One head of an image: its q, k and v lie in rows of 3 channels, one for each pixel.
struct Head {
    Head(const AttentionSizes& s, int64_t image, int64_t head)
        : pixels(s.pixels),
          d(s.d()),
          row(3 * s.channels),
          of_qkv((image * s.pixels * 3 * s.channels) + head * 3 * d),
          y_row(s.channels),
          of_y(image * s.pixels * s.channels + head * d),
          padded(kernels::round_up(s.pixels, kPanel)),
          factor(1 / std::sqrt(float(d))) {}

    int64_t pixels, d, row, of_qkv, y_row, of_y, padded;
    float factor;
};

/// The transposed rows of k or v, [d, padded].
void transpose(const Head& head, const float* rows, int64_t row, float* to) {
    for (int64_t j = 0; j < head.d; ++j) {
        for (int64_t p = 0; p < head.padded; ++p) to[j * head.padded + p] = p < head.pixels ? rows[p * row + j] : 0;
    }
}

/// softmax(q k^T / sqrt(d)), [pixels, padded]. transposed: room for [d, padded].
void scores(const Head& head, const float* qkv, float* transposed, float* s) {
    transpose(head, qkv + head.d, head.row, transposed);
    kernels::multiply(head.pixels, head.d, {qkv, head.row, 1}, {transposed, head.padded, kPanel}, head.padded, nullptr,
                      0, s, head.padded);
    kernels::softmax(head.pixels, head.pixels, head.padded, head.factor, s);
}

/// Calls work(head) for all of all images.
template <class Work>
void for_heads(const AttentionSizes& sizes, const Work& work) {
    for (int64_t i = 0; i < sizes.images; ++i) {
        for (int64_t h = 0; h < sizes.heads; ++h) work(Head(sizes, i, h));
    }
}

}  // namespace

void attention_forward(const AttentionSizes& sizes, const float* qkv, float* y) {
    const int64_t padded = kernels::round_up(sizes.pixels, kPanel);
    workspace().reserve((sizes.d() + sizes.pixels) * padded);
    float *const transposed = workspace().take(sizes.d() * padded), *const s = workspace().take(sizes.pixels * padded);
    for_heads(sizes, [&](const Head& head) {
        const float* const q = qkv + head.of_qkv;
        scores(head, q, transposed, s);
        kernels::multiply(head.pixels, head.pixels, {s, padded, 1}, {q + 2 * head.d, head.row, kPanel}, head.d, nullptr,
                          0, y + head.of_y, head.y_row);
    });
}

void attention_backward(const AttentionSizes& sizes, const float* qkv, const float* dy, float* dqkv) {
    const int64_t padded = kernels::round_up(sizes.pixels, kPanel), pixels = sizes.pixels, d = sizes.d();
    workspace().reserve((d + 2 * pixels) * padded);
    float* const transposed = workspace().take(d * padded);
    float *const s = workspace().take(pixels * padded), *const ds = workspace().take(pixels * padded);
    for_heads(sizes, [&](const Head& head) {
        const float *const q = qkv + head.of_qkv, *const k = q + d, *const v = q + 2 * d, *const of_y = dy + head.of_y;
        float* const to = dqkv + head.of_qkv;
        scores(head, q, transposed, s);
        kernels::multiply(pixels, pixels, {s, 1, padded}, {of_y, head.y_row, kPanel}, d, nullptr, 0, to + 2 * d,
                          head.row);
        transpose(head, v, head.row, transposed);
        kernels::multiply(pixels, d, {of_y, head.y_row, 1}, {transposed, padded, kPanel}, padded, nullptr, 0, ds,
                          padded);
        kernels::softmax_backward(pixels, pixels, padded, head.factor, s, ds);
        kernels::multiply(pixels, pixels, {ds, padded, 1}, {k, head.row, kPanel}, d, nullptr, 0, to, head.row);
        kernels::multiply(pixels, pixels, {ds, 1, padded}, {q, head.row, kPanel}, d, nullptr, 0, to + d, head.row);
    });
}

}  // namespace diffuse
