#include "diffuse/data/dataset.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "data/checksum.hpp"
#include "data/kinds.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/data/simulators.hpp"
#include "diffuse/data/toys.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

struct Kind {
    Dataset (*load)(const DatasetOptions&, Split);
    fs::path (*folder)(const DatasetOptions&) = nullptr;  ///< of its files; null for data that are drawn
};
const Table<Kind>& kinds() {
    static const Table<Kind> table = [] {
        Table<Kind> all = {{"mnist", {load_mnist, mnist_folder}},
                           {"images", {load_image_folder, named_folder}},
                           {"cifar10", {load_cifar10, cifar10_folder}},
                           {"cifar100", {load_cifar100, cifar100_folder}},
                           {"idx", {load_idx, named_folder}},
                           {"digits", {draw_digits}},
                           {"table", {load_table}},
                           {"simulator", {simulate}}};
        for (const auto& name : point_kinds()) all.push_back({name, {draw_points}});
        return all;
    }();
    return table;
}

/// Options of some kinds alone, whose meaning says of which.
void add_of(Fields& all, const std::vector<std::string>& kinds, const Fields& own) {
    for (Field field : own) {
        field.meaning += fmt::format(" (kind{} {})", kinds.size() > 1 ? "s" : "", fmt::join(kinds, " and "));
        field.belongs = {"kind", kinds};
        all.push_back(std::move(field));
    }
}

void add_idx_fields(Fields& all, DatasetOptions& options) {
    add_of(all, {"idx"},
           {{"name", &options.name, "part of the files' names, where a folder has several sets"},
            {"transpose", &options.transpose, "exchange rows and columns, as EMNIST needs"}});
}

void add_image_fields(Fields& all, DatasetOptions& options) {
    add_of(all, {"images"},
           {{"channels", NumberOrAuto{&options.channels, 1, 3}, "1: grey, 3: RGB; auto: grey if every file is"},
            {"size", &options.size,
             "side, or HEIGHTxWIDTH, to which images are cropped around the middle and averaged; empty: as all are"},
            {"background", &options.background,
             "colour behind transparent pixels: black, white or #rrggbb; empty: they are refused"}});
    add_of(all, {"images", "table"},
           {{"test_share", Number<double>{&options.test_share, 0, 0.9},
             "share of the examples held out, by a hash of their content"}});
    add_of(all, {"images", "table"},
           {{"skip_bad", &options.skip_bad,
             "go on without images that are damaged or of a kind that cannot be read, and rows with gaps",
             /*may_change=*/true}});
}

void add_cifar100_fields(Fields& all, DatasetOptions& options) {
    add_of(all, {"cifar100"},
           {{"labels", Choice{&options.labels, {"fine", "coarse"}},
             "which labels are the classes: 100 fine or 20 coarse"}});
}

void add_mixture_fields(Fields& all, DatasetOptions& options) {
    add_of(all, {"mixture"},
           {{"means", Rows{&options.means}, "means of the normal distributions, a list of points"},
            {"stds", Reals{&options.stds, 1e-6, 1e6}, "standard deviation of each normal distribution; []: 1"},
            {"weights", Reals{&options.weights, 1e-9, 1e9},
             "weight of each normal distribution, of whatever sum; []: all alike"}});
}

void add_table_fields(Fields& all, DatasetOptions& options) {
    add_of(
        all, {"table"},
        {{"file", &options.file, "CSV file, plain or .gz, whose first line names the columns", /*may_change=*/true},
         {"skip_columns", Words{&options.skip_columns},
          "columns that are left out, as of names or dates; \"\": those without a name"},
         {"condition", Words{&options.condition}, "columns that are the condition of the network: it draws the others"},
         {"bounds", Intervals{&options.bounds},
          "columns that no sample leaves, each with its bounds: {\"age\": [0, 120]}"},
         {"round", &options.round, "round samples of columns that are whole numbers in every row"}});
}

/// Notes how many examples of each class there are.
void count_classes(Dataset& dataset) {
    const torch::Tensor& labels = dataset.condition.classes;
    if (!labels.defined()) return;
    Classes& classes = dataset.spec.condition.classes;
    const auto counts = torch::bincount(labels, {}, classes.count);
    classes.examples.assign(counts.data_ptr<int64_t>(), counts.data_ptr<int64_t>() + counts.size(0));
}

/// Whether these are the names that parts of a data set have, as for training and tests.
bool are_parts(const std::vector<std::string>& folders) {
    static const std::set<std::string> parts = {"train",      "training", "val",     "valid",
                                                "validation", "test",     "testing", "dev"};
    return !folders.empty() && std::ranges::all_of(folders, [](std::string name) {
        std::ranges::transform(name, name.begin(), [](unsigned char c) { return char(std::tolower(c)); });
        return parts.contains(name);
    });
}

/// Numbers in some columns in the units of others, which must have the same names.
torch::Tensor in_columns(const torch::Tensor& z, const Columns& own, const Columns& wanted, const std::string& what) {
    if (own == wanted) return z;
    if (names(own) == names(wanted)) return standardised(restored(z, own), wanted);
    throw Error(fmt::format("{}: its columns are {}; the network was trained on {}", what, fmt::join(names(own), ", "),
                            fmt::join(names(wanted), ", ")));
}

}  // namespace

Fields fields(DatasetOptions& options) {
    constexpr int64_t kMany = 1'000'000'000;
    Fields all = {
        {"kind", Choice{&options.kind, names(kinds())},
         "data set; mnist: four IDX files; images: PNG and JPEG files of a folder; cifar10, cifar100: their binary "
         "versions; idx: IDX files of any size; digits: drawn by the program itself; table: rows of a CSV file; "
         "simulator: "
         "parameters and observations; the others: points in the plane that are drawn"},
        {"dir", &options.dir,
         "folder of the files; empty: $DIFFUSE_MNIST, then data/mnist; of cifar10 and cifar100: data/ and the kind",
         /*may_change=*/true},
        {"limit", Number<int64_t>{&options.limit, 0, kMany},
         "number of examples, from the first; 0: all (of digits 60000, of points 100000, of simulations 30000)"},
        {"seed", Number<int64_t>{&options.seed, 0, kMany}, "random seed for data that are drawn"},
        {"flip", &options.flip, "random horizontal flip: half of the images are mirrored, each time another half"}};
    add_idx_fields(all, options);
    add_image_fields(all, options);
    add_cifar100_fields(all, options);
    add_mixture_fields(all, options);
    add_table_fields(all, options);
    add_of(all, {"simulator"},
           {{"simulator", Choice{&options.simulator, names(simulators())},
             "simulator, whose parameters are drawn as its observations say"}});
    return all;
}

bool reads_files(const DatasetOptions& options) { return look_up("dataset", kinds(), options.kind).folder != nullptr; }

DatasetOptions located(const DatasetOptions& options) {
    DatasetOptions result = options;
    const auto remembered = [](const fs::path& path) {
        const std::string text = display_path(path);
        if (utf8_length(text) == text.size()) return text;
        throw Error(fmt::format("config: the path {} is no text in UTF-8, so no config can hold it; rename it",
                                to_text(nlohmann::json(text))));
    };
    if (!options.file.empty()) result.file = remembered(options.file);
    if (reads_files(options)) result.dir = remembered(look_up("dataset", kinds(), options.kind).folder(options));
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
    if (split == Split::kTrain) count_classes(dataset);
    return dataset;
}

void tell_classes(const Classes& classes) {
    constexpr int64_t kFew = 5;
    constexpr size_t kShown = 10;
    std::vector<std::string> all, few;
    for (int64_t i = 0; i < std::ssize(classes.examples); ++i) {
        const int64_t count = classes.examples[size_t(i)];
        const std::string counted =
            fmt::format("{} ({})", classes.name(i), count == 0 ? "none" : std::to_string(count));
        all.push_back(counted);
        if (count < kFew) few.push_back(counted);
    }
    const auto some = [](std::vector<std::string> list) {
        const size_t more = list.size() > kShown ? list.size() - kShown : 0;
        list.resize(list.size() - more);
        return fmt::format("{}{}", fmt::join(list, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
    };
    if (!classes.names.empty() && !all.empty())
        log::info(fmt::format("{} classes, with their examples: {}", all.size(), some(all)));
    if (!few.empty()) {
        log::warn(
            fmt::format("a class that has few examples is hardly learnt, and one that has none never: {}", some(few)));
    }
    if (are_parts(classes.names)) {
        log::warn(fmt::format(
            "the sub-folders {} are taken for classes; if they are parts of a data set, name one of them as "
            "dataset.dir",
            fmt::join(classes.names, ", ")));
    }
}

torch::Tensor draw_rows(const Key& first, int64_t count, int64_t width,
                        const std::function<void(Random& random, int64_t row, double* out)>& draw) {
    constexpr int64_t kGrain = 64;  // rows that are worth a thread of their own
    auto rows = torch::empty({count, width}, torch::kFloat64);
    double* const out = rows.data_ptr<double>();
    at::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            Random random({first.seed, first.purpose, first.index + uint64_t(i)});
            draw(random, i, out + i * width);
        }
    });
    return rows;
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
        const auto whole = tensor.contiguous();
        return crc32_of(bytes_of(whole));
    };
    const auto seen = [](Columns columns) {  // what decides how a network sees the numbers
        for (auto& column : columns) column.whole = false, column.range.reset();
        return to_json(columns).dump();
    };
    const auto& [shape, codec, condition, about] = dataset.spec;
    std::string text = fmt::format("{} {}s of {}, CRC-32 {:08x}", dataset.size(), noun(shape), to_string(shape),
                                   crc(dataset.examples));
    if (with_labels && dataset.condition.classes.defined()) {
        text += fmt::format(", labels {:08x}", crc(dataset.condition.classes));
    }
    if (shape.points) {
        text += fmt::format(", columns {:08x}", crc32_of(seen(codec.columns) + seen(condition.numbers)));
    }
    if (dataset.condition.numbers.defined()) text += fmt::format(", given {:08x}", crc(dataset.condition.numbers));
    return text;
}

}  // namespace diffuse
