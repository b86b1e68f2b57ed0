#include <fmt/format.h>

#include <sstream>

#include "data/kinds.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kCifarSide = 32, kCifarPixels = 3 * kCifarSide * kCifarSide;
constexpr uintmax_t kMaxCifarBytes = uintmax_t{1} << 30;

/// The binary version of one of the two sets: files of records of some labels, a byte each, and of the planes of red,
/// green and blue, row by row.
struct CifarSet {
    std::string name;
    std::string unpacked;  ///< the folder that its archive makes
    std::vector<std::string> training_files;
    std::string test_file;
    int64_t images_a_file;         ///< of those for training; tests are 10,000 in both
    std::vector<int64_t> classes;  ///< how many each of a record's labels knows
    std::string how_to_get;
};

const CifarSet& cifar10() {
    static const CifarSet set = {
        "CIFAR-10",
        "cifar-10-batches-bin",
        {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
        "test_batch.bin",
        10'000,
        {10},
        "run " + shipped_file("scripts/get-cifar10").string()};
    return set;
}

const CifarSet& cifar100() {
    static const CifarSet set = {"CIFAR-100",
                                 "cifar-100-binary",
                                 {"train.bin"},
                                 "test.bin",
                                 50'000,
                                 {20, 100},
                                 "unpack https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"};
    return set;
}

/// Where its files are: in the folder, or in the one of its archive inside.
fs::path folder_of(const CifarSet& set, const fs::path& folder) {
    const bool is_inside = !path_exists(folder / set.test_file) && is_folder(folder / set.unpacked);
    return is_inside ? folder / set.unpacked : folder;
}

/// The images of a file, and which label of each is the one at `place`.
struct CifarImages {
    std::vector<uint8_t> pixels;
    std::vector<int64_t> labels;
};

void append_batch(CifarImages& all, const fs::path& path, const CifarSet& set, size_t place, int64_t usual) {
    if (!path_exists(path)) {
        throw Error(fmt::format("no {} in {}; {}, or say by dataset.dir where the binary version of {} is",
                                path.filename().string(), display_path(path.parent_path()), set.how_to_get, set.name));
    }
    const std::string bytes = read_file(path, kMaxCifarBytes);
    const int64_t head = std::ssize(set.classes), record = head + kCifarPixels, count = std::ssize(bytes) / record;
    if (bytes.empty() || std::ssize(bytes) % record != 0) {
        throw Error(fmt::format("{}: {} bytes are no whole number of {}'s records of {}; is it cut short?",
                                display_path(path), bytes.size(), set.name, record));
    }
    if (count != usual)
        log::warn(fmt::format("{}: {} images; {} has {} in it", display_path(path), count, set.name, usual));
    for (int64_t i = 0; i < count; ++i) {
        const auto begin = bytes.begin() + i * record;
        all.labels.push_back(uint8_t(begin[int64_t(place)]));
        if (all.labels.back() >= set.classes[place]) {
            throw Error(fmt::format("{}: image {} has the label {}; {}'s go from 0 to {}", display_path(path), i,
                                    all.labels.back(), set.name, set.classes[place] - 1));
        }
        all.pixels.insert(all.pixels.end(), begin + head, begin + record);
    }
}

Dataset load_cifar(const CifarSet& set, const fs::path& folder, Split split, size_t place) {
    CifarImages all;
    if (split == Split::kTest) append_batch(all, folder / set.test_file, set, place, 10'000);
    for (const auto& file : set.training_files) {
        if (split == Split::kTrain) append_batch(all, folder / file, set, place, set.images_a_file);
    }
    Dataset dataset = image_dataset(
        torch::from_blob(all.pixels.data(), {std::ssize(all.labels), 3, kCifarSide, kCifarSide}, torch::kUInt8)
            .clone());
    dataset.condition.classes = torch::tensor(all.labels, torch::kInt64);
    dataset.spec.condition.classes = set.classes[place];
    return dataset;
}

/// The lines of a file as names, where it has one for each class; else none: numbers will do.
std::vector<std::string> names_in(const fs::path& path, int64_t classes) {
    std::istringstream lines(read_beginning(path, 1 << 16));
    std::vector<std::string> names;
    for (std::string name; lines >> name;) names.push_back(name);
    return std::ssize(names) == classes ? names : std::vector<std::string>();
}

}  // namespace

fs::path cifar10_folder(const DatasetOptions& options) { return options.dir.empty() ? "data/cifar10" : options.dir; }

fs::path cifar100_folder(const DatasetOptions& options) { return options.dir.empty() ? "data/cifar100" : options.dir; }

Dataset load_cifar10(const DatasetOptions& options, Split split) {
    Dataset dataset = load_cifar(cifar10(), folder_of(cifar10(), cifar10_folder(options)), split, 0);
    dataset.spec.condition.classes.names = {"airplane", "automobile", "bird",  "cat",  "deer",
                                            "dog",      "frog",       "horse", "ship", "truck"};
    return dataset;
}

Dataset load_cifar100(const DatasetOptions& options, Split split) {
    const fs::path folder = folder_of(cifar100(), cifar100_folder(options));
    Dataset dataset = load_cifar(cifar100(), folder, split, options.labels == "coarse" ? 0 : 1);
    Classes& classes = dataset.spec.condition.classes;
    classes.names = names_in(folder / (options.labels + "_label_names.txt"), classes.count);
    return dataset;
}

}  // namespace diffuse
