#include "diffuse/data/dataset.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/data/digits.hpp"
#include "diffuse/data/idx.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kTrainDigits = 60'000, kTestDigits = 10'000;
constexpr int64_t kClasses = 10;

fs::path mnist_folder(const DatasetOptions& options) {
    if (!options.dir.empty()) return options.dir;
    const char* variable = std::getenv("DIFFUSE_MNIST");
    return variable && *variable ? fs::path(variable) : fs::path("data/mnist");
}

/// The file of this name in the folder, also with .gz behind it, and with a dot as some archives unpack it
/// (train-images.idx3-ubyte).
std::optional<fs::path> find_idx(const fs::path& folder, const std::string& name) {
    std::string with_dot = name;
    with_dot[with_dot.find("-idx")] = '.';
    for (const auto& candidate : {name, name + ".gz", with_dot, with_dot + ".gz"}) {
        if (path_exists(folder / candidate)) return folder / candidate;
    }
    return std::nullopt;
}

/// Why there is no such file, and what to do.
std::string no_file(const std::string& name, const fs::path& folder, const DatasetOptions& options) {
    if (path_exists(folder) && access(folder.c_str(), R_OK | X_OK) != 0) {
        return fmt::format("cannot read the folder {}: {}", display_path(folder), std::strerror(errno));
    }
    const std::string what = fmt::format("no {0} or {0}.gz in {1}", name, display_path(folder));
    if (!options.dir.empty()) {
        return what +
               "; say where it is (--set dataset.dir=DIR for train, --data DIR for eval and encode), or run "
               "scripts/get-mnist";
    }
    return what +
           "; run scripts/get-mnist, or name the folder with dataset.dir or $DIFFUSE_MNIST, or take "
           "dataset.kind=digits";
}

Dataset load_mnist(const DatasetOptions& options, Split split) {
    const fs::path folder = mnist_folder(options);
    const std::string prefix = split == Split::kTrain ? "train" : "t10k", name = prefix + "-images-idx3-ubyte";
    const auto image_file = find_idx(folder, name), label_file = find_idx(folder, prefix + "-labels-idx1-ubyte");
    if (!image_file) throw Error(no_file(name, folder, options));
    const auto images = read_idx(*image_file, 3);
    if (!label_file) return {images.unsqueeze(1), {}};
    const auto labels = read_idx(*label_file, 1).to(torch::kInt64);
    if (images.size(0) != labels.size(0)) {
        throw Error(fmt::format("{} has {} images but {} has {} labels; they do not belong together",
                                display_path(*image_file), images.size(0), display_path(*label_file), labels.size(0)));
    }
    return {images.unsqueeze(1), labels, 1 + labels.max().item<int64_t>()};
}

/// Test digits are drawn from indices that no training set reaches.
Dataset draw_digits(const DatasetOptions& options, Split split) {
    const bool training = split == Split::kTrain;
    const int64_t count = !training ? kTestDigits : options.limit > 0 ? options.limit : kTrainDigits;
    const uint64_t first = training ? 0 : uint64_t{1} << 40;
    const uint64_t seed = uint64_t(options.seed);
    Dataset dataset{torch::empty({count, 1, kDigitSize, kDigitSize}, torch::kUInt8),
                    torch::empty({count}, torch::kInt64), kClasses};
    uint8_t* pixels = dataset.images.data_ptr<uint8_t>();
    int64_t* labels = dataset.labels.data_ptr<int64_t>();
    at::parallel_for(0, count, 64, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const uint64_t index = first + uint64_t(i);
            labels[i] = int64_t(Random({seed, Purpose::kLabel, index}).below(kClasses));
            draw_digit(int(labels[i]), seed, index, pixels + i * kDigitSize * kDigitSize);
        }
    });
    return dataset;
}

struct Kind {
    Dataset (*load)(const DatasetOptions&, Split);
    fs::path (*folder)(const DatasetOptions&);  ///< of its files; null for data that are drawn
};
const Table<Kind>& kinds() {
    static const Table<Kind> table = {{"mnist", {load_mnist, mnist_folder}}, {"digits", {draw_digits, nullptr}}};
    return table;
}

}  // namespace

Fields fields(DatasetOptions& options) {
    constexpr int64_t kMany = 1'000'000'000;
    return {{"kind", Choice{&options.kind, names(kinds())},
             "data set; mnist: four IDX files; digits: drawn by the program itself"},
            {.key = "dir",
             .value = &options.dir,
             .meaning = "folder of the IDX files; empty: $DIFFUSE_MNIST, then data/mnist",
             .may_change = true},
            {"limit", Number<int64_t>{&options.limit, 0, kMany},
             "number of images, from the first; 0: all (of digits: 60000)"},
            {"seed", Number<int64_t>{&options.seed, 0, kMany}, "random seed for drawn digits (kind digits)"}};
}

bool reads_files(const DatasetOptions& options) { return look_up("dataset", kinds(), options.kind).folder != nullptr; }

DatasetOptions located(const DatasetOptions& options) {
    DatasetOptions result = options;
    if (reads_files(options)) result.dir = display_path(look_up("dataset", kinds(), options.kind).folder(options));
    return result;
}

Dataset load_dataset(const DatasetOptions& options, Split split) {
    Dataset dataset = look_up("dataset", kinds(), options.kind).load(options, split);
    if (split == Split::kTrain && options.limit > 0) {
        if (options.limit > dataset.size()) {
            log::warn(fmt::format("dataset.limit is {}, but there are {} images; all are taken", options.limit,
                                  dataset.size()));
        }
        const int64_t count = std::min(options.limit, dataset.size());
        dataset.images = dataset.images.narrow(0, 0, count).clone();
        if (dataset.labels.defined()) dataset.labels = dataset.labels.narrow(0, 0, count).clone();
    }
    return dataset;
}

std::string fingerprint(const Dataset& dataset, bool with_labels) {
    const auto crc = [](const torch::Tensor& tensor) {
        const auto bytes = tensor.contiguous();
        return crc32_z(0, static_cast<const uint8_t*>(bytes.data_ptr()), bytes.nbytes());
    };
    const std::string labels =
        with_labels && dataset.labels.defined() ? fmt::format(", labels {:08x}", crc(dataset.labels)) : "";
    return fmt::format("{} images of {}, CRC-32 {:08x}{}", dataset.size(), to_string(dataset.shape()),
                       crc(dataset.images), labels);
}

}  // namespace diffuse
