#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <set>

#include "data/kinds.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/data/idx.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

/// A plain file that is not hidden, as macOS puts its own beside others (._name).
bool is_data_file(const fs::path& path) {
    std::error_code error;
    return fs::is_regular_file(path, error) && !path.filename().string().starts_with(".");
}

/// The file of this name in the folder, also with .gz behind it, with a dot as some archives unpack it
/// (train-images.idx3-ubyte), and in a folder of its own name, as others do.
std::optional<fs::path> find_idx(const fs::path& folder, const std::string& name) {
    std::string with_dot = name;
    with_dot[with_dot.find("-idx")] = '.';
    for (const auto& candidate : {name, name + ".gz", with_dot, with_dot + ".gz", name + "/" + name}) {
        if (is_data_file(folder / candidate)) return folder / candidate;
    }
    return std::nullopt;
}

/// Why there is no such file, and what to do.
std::string no_file(const std::string& name, const fs::path& folder, const DatasetOptions& options) {
    const std::string what = fmt::format("no {0} or {0}.gz in {1}", name, display_path(folder));
    const std::string script = shipped_file("scripts/get-mnist");
    if (!options.dir.empty()) return what + "; say where it is by dataset.dir, or run " + script;
    return fmt::format("{}; run {}, or name the folder with dataset.dir or $DIFFUSE_MNIST, or take dataset.kind=digits",
                       what, script);
}

/// Labels of as many images. Throws Error where they are of another number.
torch::Tensor read_labels(const fs::path& file, const fs::path& image_file, int64_t images) {
    const auto labels = read_idx(file, 1).to(torch::kInt64);
    if (images == labels.size(0)) return labels;
    throw Error(fmt::format("{} has {} images but {} has {} labels; they do not belong together",
                            display_path(image_file), images, display_path(file), labels.size(0)));
}

std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

/// The names of the folder's files that have all of these parts in them, in any letter case, in their order; of a file
/// and its .gz only the file.
std::vector<std::string> files_with(const fs::path& folder, const std::vector<std::string>& parts) {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        const auto is_in = [&](const auto& part) { return lower(name).find(lower(part)) != std::string::npos; };
        if (is_data_file(entry.path()) && std::ranges::all_of(parts, is_in)) found.insert(name);
    }
    std::erase_if(found, [&](const auto& name) {
        return name.ends_with(".gz") && found.contains(name.substr(0, name.size() - 3));
    });
    return {found.begin(), found.end()};
}

/// The only one of them. None where there is none and it need not be.
std::optional<fs::path> only_file(const fs::path& folder, std::vector<std::string> parts, bool needed) {
    const auto found = files_with(folder, parts);
    if (found.size() == 1) return folder / found.front();
    if (found.empty() && !needed) return std::nullopt;
    std::erase(parts, "");
    const std::string wanted = fmt::format("\"{}\"", fmt::join(parts, "\", \""));
    if (found.empty()) throw Error(fmt::format("{}: no file whose name has {} in it", display_path(folder), wanted));
    throw Error(fmt::format("{}: several files have {} in their names: {}; say which by dataset.name, a part of it",
                            display_path(folder), wanted, fmt::join(found, ", ")));
}

/// Labels as 0, 1, ... in the order of the numbers in the file, which are kept as names where they are others.
void set_labels(Dataset& dataset, const torch::Tensor& labels) {
    const auto [values, which, counts] = at::_unique2(labels, /*sorted=*/true, /*return_inverse=*/true);
    Classes& classes = dataset.spec.condition.classes;
    classes.count = values.size(0);
    dataset.condition.classes = which.contiguous();
    if (torch::equal(values, torch::arange(values.size(0)))) return;
    for (int64_t i = 0; i < values.size(0); ++i) {
        classes.names.push_back(std::to_string(values[i].item<int64_t>()));
    }
}

}  // namespace

void require_folder(const fs::path& folder) {
    if (is_folder(folder) && access(folder.c_str(), R_OK | X_OK) == 0) return;
    const std::string name = display_path(folder);
    if (!path_exists(folder)) throw Error(fmt::format("there is no folder {}", name));
    if (!is_folder(folder)) throw Error(fmt::format("{} is no folder", name));
    throw Error(fmt::format("cannot read the folder {}: {}", name, std::strerror(errno)));
}

fs::path named_folder(const DatasetOptions& options) {
    if (!options.dir.empty()) return options.dir;
    throw Error(fmt::format("config: dataset.kind \"{}\" needs a folder: dataset.dir", options.kind));
}

fs::path mnist_folder(const DatasetOptions& options) {
    if (!options.dir.empty()) return options.dir;
    const char* variable = std::getenv("DIFFUSE_MNIST");
    return variable && *variable ? fs::path(variable) : fs::path("data/mnist");
}

Dataset load_mnist(const DatasetOptions& options, Split split) {
    const fs::path folder = mnist_folder(options);
    if (path_exists(folder)) require_folder(folder);
    const std::string prefix = split == Split::kTrain ? "train" : "t10k", name = prefix + "-images-idx3-ubyte";
    const auto image_file = find_idx(folder, name), label_file = find_idx(folder, prefix + "-labels-idx1-ubyte");
    if (!image_file) throw Error(no_file(name, folder, options));
    Dataset dataset = image_dataset(read_idx(*image_file, 3).unsqueeze(1));
    if (!label_file) return dataset;
    dataset.condition.classes = read_labels(*label_file, *image_file, dataset.size());
    dataset.spec.condition.classes = 1 + dataset.condition.classes.max().item<int64_t>();
    return dataset;
}

Dataset load_idx(const DatasetOptions& options, Split split) {
    const fs::path folder = named_folder(options);
    require_folder(folder);
    const bool is_mnists = !files_with(folder, {options.name, "t10k", "images"}).empty();  // what it calls its test set
    const std::string word = split == Split::kTrain ? "train" : is_mnists ? "t10k" : "test";
    const auto image_file = *only_file(folder, {options.name, word, "images"}, /*needed=*/true);
    const auto label_file = only_file(folder, {options.name, word, "labels"}, /*needed=*/false);
    auto images = read_idx(image_file);
    const auto is_colour = [](int64_t channels) { return channels == 1 || channels == 3; };
    if (images.dim() == 3)
        images = images.unsqueeze(1);
    else if (is_colour(images.size(3)))
        images = images.permute({0, 3, 1, 2});
    if (!is_colour(images.size(1))) {
        throw Error(
            fmt::format("{}: its images have {} channels; expected 1 or 3", display_path(image_file), images.size(1)));
    }
    if (options.transpose) images = images.transpose(2, 3);
    Dataset dataset = image_dataset(images.contiguous());
    if (label_file) set_labels(dataset, read_labels(*label_file, image_file, dataset.size()));
    return dataset;
}

}  // namespace diffuse
