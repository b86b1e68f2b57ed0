#pragma once

#include <optional>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/base/torch.hpp"
#include "diffuse/diffusion/example_shape.hpp"

namespace diffuse {

class Net;

struct UNetOptions {
    int64_t base_channels = 32;
    std::vector<int64_t> channel_multipliers = {1, 2};
    int64_t blocks_per_level = 1;
    int64_t middle_blocks = 4;
    std::vector<int64_t> attention_resolutions;
    double dropout = 0;
    int64_t patch_size = 1;
    std::vector<int64_t> fourier_features;   ///< n: sin and cos of 2^n pi x (`fourier_features`)
    std::optional<bool> position_embedding;  ///< by default true for up to 100 labels
};
Fields fields(UNetOptions& options);

/// A U-Net (Ronneberger et al. 2015; Ho et al. 2020, appendix B) from noisy images, [N, C, H, W], and their time to a
/// prediction of the same shape, conditioned on a class where it has classes. It knows nothing of schedules. Residual
/// blocks of GroupNorm, SiLU and 3x3 convolutions, scaled and shifted by the time; skip connections; self-attention
/// where asked. The last convolution starts at zero, so a new network predicts zero. On a CPU memory is channels-last
/// throughout, and each call works on the calling thread. On a GPU memory is as LibTorch has it by default, as its
/// group normalisation there knows no other order and would copy every map. A class's row of a table is added to the
/// embedding of the time; the last row is that of none. With position_embedding there is such a table for each level
/// too, with or without classes, whose row is added to the features with which the level begins. Its matrices are the
/// convolutions between feature maps, [out, in * height * width]; the first and the last one, from and to pixels, are
/// none. `classes`: that images may be said to be of. Throws Error naming the config key when the sizes do not fit the
/// image.
Net make_unet(const UNetOptions& options, const ExampleShape& shape, uint64_t seed, torch::Device device,
              int64_t classes = 0);

/// The heights of the feature maps of its levels, the highest first: those at which it can have attention.
std::vector<int64_t> level_heights(const UNetOptions& options, const ExampleShape& shape);

/// x and behind its channels the sines, then the cosines of 2^n pi x for each n (Kingma et al. 2021, arXiv:2107.00630,
/// appendix C): a network reads differences of less than a grey level off them, which is where most of the bits of a
/// likelihood are. x: [N, C, H, W] -> [N, C (1 + 2 numbers), H, W].
torch::Tensor fourier_features(const torch::Tensor& x, const std::vector<int64_t>& numbers);

/// Sinusoidal embedding of times, as in Ho et al. 2020 (after Vaswani et al. 2017, section 3.5): cosines and sines of
/// t times `size`/2 frequencies from 1 down to almost 1/10000. t: [N] -> [N, size].
torch::Tensor time_embedding(const torch::Tensor& t, int64_t size);

}  // namespace diffuse
