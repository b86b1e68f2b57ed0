#pragma once

#include <filesystem>

#include "diffuse/data/dataset.hpp"

/// A function for each kind of data set; see `load_dataset`.
namespace diffuse {

Dataset load_mnist(const DatasetOptions& options, Split split);
Dataset load_idx(const DatasetOptions& options, Split split);
Dataset load_cifar10(const DatasetOptions& options, Split split);
Dataset load_image_folder(const DatasetOptions& options, Split split);
Dataset load_table(const DatasetOptions& options, Split split);
Dataset simulate(const DatasetOptions& options, Split split);

/// The folder that each reads.
std::filesystem::path mnist_folder(const DatasetOptions& options);
std::filesystem::path cifar10_folder(const DatasetOptions& options);
/// options.dir. Throws Error where that is empty.
std::filesystem::path named_folder(const DatasetOptions& options);

/// Throws Error naming the folder where it cannot be read.
void require_folder(const std::filesystem::path& folder);

}  // namespace diffuse
