#pragma once

#include <filesystem>
#include <functional>

#include "diffuse/base/random.hpp"
#include "diffuse/data/dataset.hpp"

/// A function for each kind of data set; see `load_dataset`.
namespace diffuse {

Dataset load_mnist(const DatasetOptions& options, Split split);
Dataset load_idx(const DatasetOptions& options, Split split);
Dataset load_cifar10(const DatasetOptions& options, Split split);
Dataset load_cifar100(const DatasetOptions& options, Split split);
Dataset load_image_folder(const DatasetOptions& options, Split split);
Dataset load_table(const DatasetOptions& options, Split split);
Dataset simulate(const DatasetOptions& options, Split split);
Dataset draw_digits(const DatasetOptions& options, Split split);

/// Of data that are drawn, test examples have indices that no training set reaches, and are at most so many.
constexpr int64_t kFirstDrawnTest = int64_t{1} << 40, kMaxDrawnTest = 10'000;

/// float64 [count, width], row i by draw(Random of index first + i, i, out), on all threads.
torch::Tensor draw_rows(const Key& first, int64_t count, int64_t width,
                        const std::function<void(Random& random, int64_t row, double* out)>& draw);

/// The folder that each reads.
std::filesystem::path mnist_folder(const DatasetOptions& options);
std::filesystem::path cifar10_folder(const DatasetOptions& options);
std::filesystem::path cifar100_folder(const DatasetOptions& options);
/// options.dir. Throws Error where that is empty.
std::filesystem::path named_folder(const DatasetOptions& options);

/// Throws Error naming the folder where it cannot be read.
void require_folder(const std::filesystem::path& folder);

}  // namespace diffuse
