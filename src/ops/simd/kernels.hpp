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
/// points of one tile fall into different sets of the cache.
struct Tiles {
    float* data;
    int64_t channels, stride;
};

/// Of each channel over the pixels: sums[0] = its first value, sums[1] and sums[2] = the sums of the deviations from
/// that and of their squares. sums: [3, channels].
void channel_sums(const float* x, int64_t pixels, int64_t channels, float* sums);

/// Copies an image into channels `first` .. of a padded one, of `all` channels. With `scale` and `shift`, of one number
/// a channel, silu(scale x + shift) instead of x. `upsample`: each pixel of x fills 2x2 (shape is that of the result).
void pad(const float* x, int64_t channels, const float* scale, const float* shift, bool upsample, const Shape& shape,
         float* padded, int64_t first, int64_t all);

/// B^T d B of every tile of a padded image, to rows first_tile .. of `out`.
void transform_input(const float* padded, const Shape& shape, Tiles out, int64_t first_tile);
/// A dy A^T of every tile of a padded image of gradients, of `channels` channels (a multiple of kChannels).
void transform_gradient(const float* padded, int64_t channels, const Shape& shape, Tiles out, int64_t first_tile);
/// G g G^T of weights [out, 3, 3, in], packed [out/kPanel, kPoints, in padded, kPanel]. `backward`: of the flipped,
/// transposed ones, for the gradient of the input.
void transform_weights(const float* weights, int64_t out, int64_t in, bool backward, float* packed);
/// G^T u G of the products of gradients [kPoints, in padded, out padded], to [out, 3, 3, in].
void gradient_of_weights(const float* products, int64_t out, int64_t in, float* gradient);

/// A^T (in[p] packed[p]) A for the tiles of `images` images, each point p's a product [tiles, in.channels] times
/// [in.channels, channels]; to y [images, height, width, channels], plus bias and residual where they are not null.
void multiply_out(Tiles in, int64_t images, const Shape& shape, const float* packed, int64_t channels,
                  const float* bias, const float* residual, float* y);
/// products[p] += in[p]^T gradients[p] for each of `points`: [in.channels, gradients.channels].
void multiply_transposed(Tiles in, int64_t rows, Tiles gradients, int64_t points, float* products);
/// c [rows, columns] = a [rows, inner] times packed, plus c where `add`, else plus the bias [columns] unless it is
/// null. packed: [columns / kPanel, inner, kPanel]; columns: a multiple of kPanel.
void multiply(const float* a, int64_t rows, int64_t inner, const float* packed, int64_t columns, const float* bias,
              bool add, float* c);

/// The gradient of silu(scale x + shift), in place: d becomes that of u = scale x + shift; and its sums of d and d x
/// over the pixels, added to sums [2, channels]. d has `stride` numbers a pixel.
void silu_backward(const float* x, int64_t pixels, int64_t channels, const float* scale, const float* shift, float* d,
                   int64_t stride, float* sums);
/// out = p d - q x - r, each of p, q, r one number a channel.
void affine_backward(const float* x, int64_t pixels, int64_t channels, const float* d, int64_t stride, const float* p,
                     const float* q, const float* r, float* out);

/// AdamWStep (conv3x3.hpp) as floats; a share is what comes in anew, 1 - beta.
struct AdamWNumbers {
    float factor, mean_share, beta2, square_share, epsilon, shrink, rate, square_factor, ema_share;
};
void adamw(const AdamWNumbers& numbers, int64_t count, const float* gradient, float* mean, float* square,
           float* weights, float* ema);

}  // namespace diffuse::kernels
