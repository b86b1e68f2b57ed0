#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"
#include "diffuse/run/config.hpp"

namespace diffuse {

/// Size of one image: [channels, height, width].
struct ImageShape {
    int64_t channels = 1, height = 28, width = 28;
    bool operator==(const ImageShape&) const = default;
};

/// Pictures and what they show. They stay bytes in memory: 47 MB for MNIST instead of 188.
struct Dataset {
    torch::Tensor images;  ///< uint8 [N, C, H, W]
    torch::Tensor labels;  ///< int64 [N]
    int64_t size() const { return images.size(0); }
    ImageShape shape() const { return {images.size(1), images.size(2), images.size(3)}; }
};

enum class Split { kTrain, kTest };

/// Loads a split as `config` says. mnist: images and labels from IDX files, plain or .gz, in config.dir, or else
/// $DIFFUSE_MNIST, or else data/mnist. digits: drawn (see digits.hpp); the test split holds 10,000 others.
/// Throws Error naming the file or folder when something is missing, damaged or does not fit together.
Dataset load_dataset(const DatasetConfig& config, Split split);

/// "60000 images of 1x28x28, CRC-32 5a1c3b07": tells whether two data sets hold the same images in the same order.
std::string fingerprint(const Dataset& dataset);

std::vector<std::string> dataset_kinds();

/// uint8 0 .. 255 to float32 in [-1, 1], and back (rounded and clamped).
torch::Tensor to_signed(const torch::Tensor& bytes);
torch::Tensor to_bytes(const torch::Tensor& images);

}  // namespace diffuse
