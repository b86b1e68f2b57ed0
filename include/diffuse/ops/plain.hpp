#pragma once

#include <cstdint>

/// The tuned operators on plain memory, on the calling thread: what LibTorch's tensors and autograd are wrapped around
/// (conv3x3.hpp, conv1x1.hpp), and what a network is walked with where nothing else is needed (nets/program.hpp). Maps
/// are float32 [images, height, width, channels]. Gradients of weights and biases are added to what is there.
namespace diffuse {

/// Where a gradient goes; null: it is not wanted.
struct Into {
    float* to = nullptr;
    bool add = false;  ///< to what is there
};

/// A 3x3 convolution of stride 1 with a border of zeros: see conv3x3.hpp.
struct Conv3x3Sizes {
    int64_t images, height, width;  ///< of the result
    int64_t x, skip, out;           ///< channels; skip: 0 without one
    int64_t groups = 0;             ///< of the normalisation; 0: none
    bool upsample = false;
    int64_t in() const { return x + skip; }
};
struct Conv3x3Input {
    const float *x, *skip;
    const float *scale, *shift;  ///< with groups: of image i, in() numbers each at + i * stride
    int64_t stride;              ///< 0: the same for all images
    float *mean, *inverse;       ///< [images, groups], mean and 1 / standard deviation: written forward, read backward
};
struct Conv3x3Gradients {
    Into x, skip;
    float *scale, *shift;  ///< [images, in()], written, with groups
    float *weight, *bias;  ///< null: not wanted
};
/// Numbers in weights that are packed for the way forward or back.
int64_t packed_conv3x3_size(int64_t in, int64_t out, bool backward);
/// weight: [out, 3, 3, in].
void pack_conv3x3(const float* weight, int64_t in, int64_t out, bool backward, float* packed);
/// y [images, height, width, out] = the convolution plus bias and residual where they are not null.
void conv3x3_forward(const Conv3x3Sizes& sizes, const Conv3x3Input& input, const float* packed, const float* bias,
                     const float* residual, float* y);
/// packed: for the way back. dy: the gradient of y.
void conv3x3_backward(const Conv3x3Sizes& sizes, const Conv3x3Input& input, const float* packed, const float* dy,
                      const Conv3x3Gradients& gradients);

/// A linear map of each row of x and skip, side by side: y = [x skip] W^T + bias. All sizes in multiples of 16, but for
/// the number of rows.
struct DenseSizes {
    int64_t rows;
    int64_t x, skip, out;  ///< numbers in a row; skip: 0 without one
    int64_t in() const { return x + skip; }
};
/// weight: [out, in]. Either way packed it has as many numbers.
void pack_dense(const float* weight, int64_t in, int64_t out, bool backward, float* packed);
/// add: y + [x skip] W^T + bias instead.
void dense_forward(const DenseSizes& sizes, const float* x, const float* skip, const float* packed, const float* bias,
                   bool add, float* y);
void dense_backward(const DenseSizes& sizes, const float* x, const float* skip, const float* packed, const float* dy,
                    Into dx, Into dskip, float* weight, float* bias);

/// A 3x3 convolution of stride 2 with a border of zeros, of maps with even sides; the weight [out, 3, 3, in] is packed
/// by `pack_dense` as [out, 9 in].
struct HalvingSizes {
    int64_t images, height, width;  ///< of x
    int64_t in, out;                ///< channels, multiples of 16
};
void halving_forward(const HalvingSizes& sizes, const float* x, const float* packed, const float* bias, float* y);
void halving_backward(const HalvingSizes& sizes, const float* x, const float* packed, const float* dy, Into dx,
                      float* weight, float* bias);

/// Group normalisation alone, scaled and shifted: y = scale xhat + shift. channels: a multiple of 8.
struct NormSizes {
    int64_t images, pixels, channels, groups;
};
void norm_forward(const NormSizes& sizes, const float* x, const float* scale, const float* shift, float* mean,
                  float* inverse, float* y);
/// dy is used up. of_scale, of_shift: [channels], added; null: not wanted.
void norm_backward(const NormSizes& sizes, const float* x, const float* scale, const float* mean, const float* inverse,
                   float* dy, Into dx, float* of_scale, float* of_shift);

/// Self-attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1) of all pixels of an image: of each head
/// softmax(q k^T / sqrt(d)) v.
struct AttentionSizes {
    int64_t images, pixels, channels, heads;
    int64_t d() const { return channels / heads; }  ///< a multiple of 16
};
/// qkv: [images, pixels, 3 channels], q, k and v of the first head, of the second, ..; y: [images, pixels, channels].
void attention_forward(const AttentionSizes& sizes, const float* qkv, float* y);
/// dqkv is written.
void attention_backward(const AttentionSizes& sizes, const float* qkv, const float* dy, float* dqkv);

}  // namespace diffuse
