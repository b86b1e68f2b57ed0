#include "diffuse/data/dataset.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include "data/kinds.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/data/digits.hpp"
#include "diffuse/data/simulators.hpp"
#include "diffuse/data/toys.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kTrainDigits = 60'000, kTestDigits = 10'000;
constexpr int64_t kClasses = 10;

/// Test digits are drawn from indices that no training set reaches.
Dataset draw_digits(const DatasetOptions& options, Split split) {
    const bool training = split == Split::kTrain;
    const int64_t count = !training ? kTestDigits : options.limit > 0 ? options.limit : kTrainDigits;
    const uint64_t first = training ? 0 : uint64_t{1} << 40;
    const uint64_t seed = uint64_t(options.seed);
    Dataset dataset = image_dataset(torch::empty({count, 1, kDigitSize, kDigitSize}, torch::kUInt8));
    dataset.condition.classes = torch::empty({count}, torch::kInt64);
    dataset.spec.condition.classes = kClasses;
    uint8_t* pixels = dataset.examples.data_ptr<uint8_t>();
    int64_t* labels = dataset.condition.classes.data_ptr<int64_t>();
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
    static const Table<Kind> table = {
        {"mnist", {load_mnist, mnist_folder}},       {"images", {load_image_folder, named_folder}},
        {"cifar10", {load_cifar10, cifar10_folder}}, {"idx", {load_idx, named_folder}},
        {"digits", {draw_digits, nullptr}},          {"table", {load_table, nullptr}},
        {"simulator", {simulate, nullptr}}};
    static const Table<Kind> all = [] {
        auto kinds = table;
        for (const auto& name : point_kinds()) kinds.push_back({name, {draw_points, nullptr}});
        return kinds;
    }();
    return all;
}

}  // namespace

Fields fields(DatasetOptions& options) {
    constexpr int64_t kMany = 1'000'000'000;
    return {
        {"kind", Choice{&options.kind, names(kinds())},
         "data set; mnist: four IDX files; images: PNG and JPEG files of a folder; cifar10: its binary version; idx: "
         "IDX files of any size; digits: drawn by the program itself; table: rows of a CSV file; simulator: "
         "parameters and observations; the others: points in the plane that are drawn"},
        {.key = "dir",
         .value = &options.dir,
         .meaning = "folder of the files; empty: $DIFFUSE_MNIST, then data/mnist; of cifar10: data/cifar10",
         .may_change = true},
        {"limit", Number<int64_t>{&options.limit, 0, kMany},
         "number of examples, from the first; 0: all (of digits 60000, of points 100000, of simulations 30000)"},
        {"seed", Number<int64_t>{&options.seed, 0, kMany}, "random seed for data that are drawn"},
        {"flip", &options.flip, "random horizontal flip: half of the images are mirrored, each time another half"},
        {.key = "name",
         .value = &options.name,
         .meaning = "part of the files' names, where a folder has several sets (kind idx)",
         .belongs = {"kind", {"idx"}}},
        {.key = "transpose",
         .value = &options.transpose,
         .meaning = "exchange rows and columns, as EMNIST needs (kind idx)",
         .belongs = {"kind", {"idx"}}},
        {.key = "channels",
         .value = NumberOrAuto{&options.channels, 1, 3},
         .meaning = "1: grey, 3: RGB; auto: grey if every file is (kind images)",
         .belongs = {"kind", {"images"}}},
        {.key = "size",
         .value = &options.size,
         .meaning = "side, or HEIGHTxWIDTH, to which images are cropped around the middle and averaged; empty: as "
                    "all are (kind images)",
         .belongs = {"kind", {"images"}}},
        {.key = "background",
         .value = &options.background,
         .meaning = "colour behind transparent pixels: black, white or #rrggbb; empty: they are refused (kind images)",
         .belongs = {"kind", {"images"}}},
        {.key = "test_share",
         .value = Number<double>{&options.test_share, 0, 0.9},
         .meaning = "share of the examples held out, by a hash of their content (kinds images and table)",
         .belongs = {"kind", {"images", "table"}}},
        {.key = "skip_bad",
         .value = &options.skip_bad,
         .meaning = "go on without files that are damaged or no images (kind images)",
         .may_change = true,
         .belongs = {"kind", {"images"}}},
        {.key = "means",
         .value = Rows{&options.means},
         .meaning = "means of the normal distributions, a list of points (kind mixture)",
         .belongs = {"kind", {"mixture"}}},
        {.key = "stds",
         .value = Reals{&options.stds, 1e-6, 1e6},
         .meaning = "standard deviation of each normal distribution; []: 1 (kind mixture)",
         .belongs = {"kind", {"mixture"}}},
        {.key = "weights",
         .value = Reals{&options.weights, 1e-9, 1e9},
         .meaning = "weight of each normal distribution, of whatever sum; []: all alike (kind mixture)",
         .belongs = {"kind", {"mixture"}}},
        {.key = "file",
         .value = &options.file,
         .meaning = "CSV file, whose first line names the columns (kind table)",
         .may_change = true,
         .belongs = {"kind", {"table"}}},
        {.key = "condition",
         .value = Words{&options.condition},
         .meaning = "columns that are the condition of the network: it draws the others (kind table)",
         .belongs = {"kind", {"table"}}},
        {.key = "simulator",
         .value = Choice{&options.simulator, names(simulators())},
         .meaning = "simulator, whose parameters are drawn as its observations say (kind simulator)",
         .belongs = {"kind", {"simulator"}}}};
}

bool reads_files(const DatasetOptions& options) { return look_up("dataset", kinds(), options.kind).folder != nullptr; }

DatasetOptions located(const DatasetOptions& options) {
    DatasetOptions result = options;
    if (!options.file.empty()) result.file = display_path(options.file);
    if (reads_files(options)) result.dir = display_path(look_up("dataset", kinds(), options.kind).folder(options));
    return result;
}

Dataset load_dataset(const DatasetOptions& options, Split split) {
    Dataset dataset = look_up("dataset", kinds(), options.kind).load(options, split);
    if (split == Split::kTrain && options.limit > 0) {
        if (options.limit > dataset.size()) {
            log::warn(fmt::format("dataset.limit is {}, but there are {} {}s; all are taken", options.limit,
                                  dataset.size(), noun(dataset.spec.shape)));
        }
        if (options.limit < dataset.size()) dataset = dataset.rows(torch::arange(options.limit));
    }
    return dataset;
}

Dataset image_dataset(const torch::Tensor& images) {
    Dataset dataset{images};
    dataset.spec.shape = {images.size(1), images.size(2), images.size(3)};
    return dataset;
}

Dataset Dataset::rows(const torch::Tensor& index) const {
    return {examples.index_select(0, index), condition.rows(index), spec};
}

Dataset Dataset::part(int64_t first, int64_t count) const {
    return {examples.narrow(0, first, count),
            condition.each([&](const torch::Tensor& all) { return all.narrow(0, first, count); }), spec};
}

namespace {

/// Numbers in some columns in the units of others, which must have the same names.
torch::Tensor in_columns(const torch::Tensor& z, const Columns& own, const Columns& wanted, const std::string& what) {
    if (own == wanted) return z;
    if (names(own) == names(wanted)) return standardised(restored(z, own), wanted);
    throw Error(fmt::format("{}: its columns are {}; the network was trained on {}", what, fmt::join(names(own), ", "),
                            fmt::join(names(wanted), ", ")));
}

}  // namespace

Dataset in_terms_of(const DataSpec& spec, Dataset dataset, const std::string& what) {
    const DataSpec& own = dataset.spec;
    dataset.examples = in_columns(dataset.examples, own.codec.columns, spec.codec.columns, what);
    Condition& condition = dataset.condition;
    condition.numbers = in_columns(condition.numbers, own.condition.numbers, spec.condition.numbers, what);
    if (condition.classes.defined()) {
        condition.classes = spec.condition.renumbered(condition.classes, own.condition.classes);
    }
    condition = spec.condition.taken(condition);
    dataset.spec.codec = spec.codec;
    dataset.spec.condition = spec.condition;
    return dataset;
}

std::string fingerprint(const Dataset& dataset, bool with_labels) {
    const auto crc = [](const torch::Tensor& tensor) {
        const auto bytes = tensor.contiguous();
        return crc32_z(0, static_cast<const uint8_t*>(bytes.data_ptr()), bytes.nbytes());
    };
    const auto& [shape, codec, condition, about] = dataset.spec;
    std::string text = fmt::format("{} {}s of {}, CRC-32 {:08x}", dataset.size(), noun(shape), to_string(shape),
                                   crc(dataset.examples));
    if (with_labels && dataset.condition.classes.defined()) {
        text += fmt::format(", labels {:08x}", crc(dataset.condition.classes));
    }
    if (shape.points) {
        const std::string columns = to_json(codec.columns).dump() + to_json(condition.numbers).dump();
        const auto* bytes = reinterpret_cast<const uint8_t*>(columns.data());
        text += fmt::format(", columns {:08x}", crc32_z(0, bytes, columns.size()));
    }
    if (dataset.condition.numbers.defined()) text += fmt::format(", given {:08x}", crc(dataset.condition.numbers));
    return text;
}

}  // namespace diffuse
