#pragma once

#include <cstdint>

#include "diffuse/ops/instruction_set.hpp"

namespace diffuse::kernels {

/// The arithmetic of the hand-tuned operators on one thread, compiled for each vector instruction set and picked at run
/// time. Images are float32 NHWC. A padded image has a border of one zero pixel before, at least one behind, and sides
/// 4 tiles + 2, so that every tile of Winograd's F(4x4, 3x3) (Lavin & Gray 2016, arXiv:1509.09308, section 4.3) reads
/// 6x6 pixels of it; its channels are padded with zeros to a multiple of kChannels.
inline constexpr int64_t kChannels = 8;  ///< transforms work on this many channels at once
inline constexpr int64_t kPanel = 16;    ///< products on this many output channels
inline constexpr int64_t kPoints = 36;   ///< elements of a transformed tile

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Sizes of one group of images on its way through a convolution.
struct Shape {
    int64_t height, width;
    int64_t tiles_high() const { return (height + 3) / 4; }
    int64_t tiles_wide() const { return (width + 3) / 4; }
    int64_t tiles() const { return tiles_high() * tiles_wide(); }
    int64_t padded_height() const { return 4 * tiles_high() + 2; }
    int64_t padded_width() const { return 4 * tiles_wide() + 2; }
    int64_t padded_pixels() const { return padded_height() * padded_width(); }
};

/// Transformed tiles: kPoints matrices [tiles, channels], `stride` apart. The stride is no power of two, so that the
/// points of one tile fall into different sets of the cache, and leaves room for kPanel numbers to be read behind.
struct Tiles {
    float* data;
    int64_t channels, stride;
};

/// Of each channel over the pixels: sums[0] = its first value, sums[1] and sums[2] = the sums of the deviations from
/// that and of their squares. sums: [3, channels].
void channel_sums(const float* x, int64_t pixels, int64_t channels, float* sums);

/// Copies an image into channels `first` .. of a padded one, of `all` channels. With `scale` and `shift`, of one number
/// a channel, silu(u) of u = scale x + shift instead of x, and the derivative of silu at u into the same channels of
/// `slope`, which has no border, unless that is null. `upsample`: each pixel of x fills 2x2 (shape is that of the
/// result).
void pad(const float* x, int64_t channels, const float* scale, const float* shift, bool upsample, const Shape& shape,
         float* padded, float* slope, int64_t first, int64_t all);

/// B^T d B of every tile of a padded image, to rows first_tile .. of `out`.
void transform_input(const float* padded, const Shape& shape, Tiles out, int64_t first_tile);
/// A dy A^T of every tile of a padded image of gradients, of `channels` channels (a multiple of kChannels).
void transform_gradient(const float* padded, int64_t channels, const Shape& shape, Tiles out, int64_t first_tile);
/// G g G^T of weights [out, 3, 3, in], packed [out/kPanel, kPoints, in padded, kPanel]. `backward`: of the flipped,
/// transposed ones, for the gradient of the input.
void transform_weights(const float* weights, int64_t out, int64_t in, bool backward, float* packed);
/// G^T u G of the products of gradients [kPoints, out, in rounded up to kPanel], added to [out, 3, 3, in].
void gradient_of_weights(const float* products, int64_t out, int64_t in, float* gradient);

/// A^T (in[p] packed[p]) A for the tiles of `images` images, each point p's a product [tiles, in.channels] times
/// [in.channels, channels]; to y [images, height, width, channels], plus bias and residual where they are not null.
void multiply_out(Tiles in, int64_t images, const Shape& shape, const float* packed, int64_t channels,
                  const float* bias, const float* residual, float* y);
/// A matrix whose element (i, k) is data[i row + k step].
struct Left {
    const float* data;
    int64_t row, step;
};
/// One whose element (k, j) is data[k row + j / kPanel panel + j % kPanel]: packed in panels of kPanel columns, or,
/// with panel = kPanel, as it lies in memory.
struct Right {
    const float* data;
    int64_t row, panel;
};
/// c = a b, plus `start` unless it is null. a: [rows, inner]; c and start: [rows, columns], their rows `c_row` and
/// `start_row` apart. columns: a multiple of kPanel.
void multiply(int64_t rows, int64_t inner, const Left& a, const Right& b, int64_t columns, const float* start,
              int64_t start_row, float* c, int64_t c_row);

/// softmax(factor x) of each row's first `columns` numbers, in place; rows are `stride` apart, a multiple of kPanel.
/// What lies behind the columns is no number of use afterwards.
void softmax(int64_t rows, int64_t columns, int64_t stride, float factor, float* x);
/// From s = softmax(factor x) and the gradient d of it, that of x, in place of d: factor s (d - sum(s d)).
void softmax_backward(int64_t rows, int64_t columns, int64_t stride, float factor, const float* s, float* d);

/// d times slope, in place, and its sums and those of it times x over the pixels, to sums [2, channels]. d and slope
/// have `stride` numbers a pixel. No slope: 1.
void scaled_sums(const float* x, int64_t pixels, int64_t channels, const float* slope, float* d, int64_t stride,
                 float* sums);
/// out = p d - q x - r, each of p, q, r one number a channel; plus out where `add`.
void affine_backward(const float* x, int64_t pixels, int64_t channels, const float* d, int64_t stride, const float* p,
                     const float* q, const float* r, bool add, float* out);

/// AdamWStep (conv3x3.hpp) as floats; a share is what comes in anew, 1 - beta.
struct AdamWNumbers {
    float factor, mean_share, beta2, square_share, epsilon, shrink, rate, square_factor, ema_share;
};
void adamw(const AdamWNumbers& numbers, int64_t count, const float* gradient, float* mean, float* square,
           float* weights, float* ema);

}  // namespace diffuse::kernels
