#include <fmt/format.h>

#include <cstring>

#include "data/kinds.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kCifarSide = 32, kCifarPixels = 3 * kCifarSide * kCifarSide, kCifarRecord = 1 + kCifarPixels,
                  kCifarClasses = 10;
constexpr uintmax_t kMaxCifarBytes = uintmax_t{1} << 30;

/// Records of a label and the planes of red, green and blue, row by row.
void append_batch(const fs::path& path, std::vector<uint8_t>& pixels, std::vector<int64_t>& labels) {
    if (!path_exists(path)) {
        throw Error(fmt::format("no {} in {}; run {}, or say by dataset.dir where the binary version of CIFAR-10 is",
                                path.filename().string(), display_path(path.parent_path()),
                                shipped_file("scripts/get-cifar10").string()));
    }
    const std::string bytes = read_file(path, kMaxCifarBytes);
    if (bytes.empty() || int64_t(bytes.size()) % kCifarRecord != 0) {
        throw Error(fmt::format("{}: {} bytes are no whole number of CIFAR-10's records of {}; is it cut short?",
                                display_path(path), bytes.size(), kCifarRecord));
    }
    if (bytes.size() != 10'000 * kCifarRecord) {
        log::warn(
            fmt::format("{}: {} images; CIFAR-10 has 10000 a file", display_path(path), bytes.size() / kCifarRecord));
    }
    for (size_t at = 0; at < bytes.size(); at += kCifarRecord) {
        labels.push_back(uint8_t(bytes[at]));
        if (labels.back() >= kCifarClasses) {
            throw Error(fmt::format("{}: image {} has the label {}; CIFAR-10's go from 0 to 9", display_path(path),
                                    at / kCifarRecord, labels.back()));
        }
        pixels.insert(pixels.end(), bytes.begin() + int64_t(at) + 1, bytes.begin() + int64_t(at) + kCifarRecord);
    }
}

}  // namespace

fs::path cifar10_folder(const DatasetOptions& options) { return options.dir.empty() ? "data/cifar10" : options.dir; }

Dataset load_cifar10(const DatasetOptions& options, Split split) {
    const fs::path folder = cifar10_folder(options);
    std::vector<uint8_t> pixels;
    std::vector<int64_t> labels;
    if (split == Split::kTest) append_batch(folder / "test_batch.bin", pixels, labels);
    for (int batch = 1; split == Split::kTrain && batch <= 5; ++batch) {
        append_batch(folder / fmt::format("data_batch_{}.bin", batch), pixels, labels);
    }
    Dataset dataset = image_dataset(
        torch::from_blob(pixels.data(), {std::ssize(labels), 3, kCifarSide, kCifarSide}, torch::kUInt8).clone());
    dataset.condition.classes = torch::tensor(labels, torch::kInt64);
    dataset.spec.condition.classes = {
        kCifarClasses, {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}};
    return dataset;
}

}  // namespace diffuse
