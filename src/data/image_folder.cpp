#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "data/checksum.hpp"
#include "data/kinds.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/base/text.hpp"
#include "diffuse/data/image.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

constexpr uintmax_t kMaxImageBytes = uintmax_t{1} << 28;
constexpr size_t kKeptCaches = 8;
constexpr size_t kMaxCacheBytes = size_t{4} << 30;

/// A file of the folder, and what is found out about it.
struct Entry {
    fs::path path;
    std::string name;    ///< below the folder
    int64_t label = -1;  ///< of its sub-folder
    int64_t slot = -1;   ///< its place in the split that is loaded; none in the other one
    uint32_t crc = 0;    ///< of its bytes
    ImageHead head;
    std::string problem;  ///< why it is no image to be had
    std::string remark;   ///< what is wrong with it, though it is read
    bool colours = false, enlarged = false, converted = false;
};

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

/// All files of a folder and its sub-folders but hidden ones, each folder once, however many links lead to it: by its
/// own name where it has one inside, and not where it holds this one.
class Listing {
public:
    explicit Listing(const fs::path& root) : root_(root) {
        const fs::path top = fs::canonical(root);
        for (fs::path above = top; above.has_relative_path();) is_new(above = above.parent_path());
        folders_ = {root};
        std::vector<fs::path> again;
        while (const auto folder = next()) {
            if (is_new(*folder))
                list(*folder);
            else
                again.push_back(*folder);
        }
        if (again.empty()) return;
        log::info(fmt::format("{} links to folders that are listed already are passed over, the first {}", again.size(),
                              again.front().lexically_relative(root).generic_string()));
    }
    std::vector<Entry> entries;

private:
    /// Folders before links, both in the order of their names.
    std::optional<fs::path> next() {
        auto& waiting = folders_.empty() ? links_ : folders_;
        if (waiting.empty()) return std::nullopt;
        return waiting.extract(waiting.begin()).value();
    }
    /// Whether it was not seen before, by whatever name.
    bool is_new(const fs::path& folder) {
        struct stat found {};
        return ::stat(folder.c_str(), &found) != 0 || seen_.emplace(found.st_dev, found.st_ino).second;
    }
    void list(const fs::path& folder) {
        std::error_code error, no_folder;
        for (fs::directory_iterator files(folder, error), end; !error && files != end; files.increment(error)) {
            const fs::path& path = files->path();
            if (is_hidden(path)) continue;
            if (files->is_directory(no_folder))
                (files->is_symlink(no_folder) ? links_ : folders_).insert(path);
            else if (files->is_regular_file(no_folder) || !files->exists(no_folder))  // the latter: a broken link
                entries.push_back({.path = path, .name = path.lexically_relative(root_).generic_string()});
        }
        if (error) throw Error(fmt::format("cannot read the folder {}: {}", display_path(folder), error.message()));
    }

    fs::path root_;
    std::set<fs::path> folders_, links_;
    std::set<std::pair<dev_t, ino_t>> seen_;
};

std::vector<Entry> list_files(const fs::path& folder) {
    auto entries = Listing(folder).entries;
    std::ranges::sort(entries, {}, &Entry::name);
    return entries;
}

/// The name of a sub-folder as a class, in normal form. Throws Error for one that --class could not tell from others.
std::string class_name(const std::string& folder) {
    const auto name = nfc(folder);
    if (!name) {
        throw Error(fmt::format("the sub-folder '{}' cannot be the name of a class: it is no UTF-8; rename it",
                                log::printable(folder)));
    }
    const bool is_word = *name == "all" || *name == "none" || *name == "own" || name->find(',') != std::string::npos;
    if (!is_word) return *name;
    throw Error(
        fmt::format("the sub-folder '{}' cannot be the name of a class: all, none, own and commas mean something else "
                    "there; rename it",
                    *name));
}

/// Gives each file the class of its sub-folder, and returns their names; none where there are no sub-folders. Throws
/// Error where some have a class and some have none.
std::vector<std::string> assign_classes(std::vector<Entry>& entries) {
    std::map<std::string, int64_t> classes;
    const auto folder_of = [](const Entry& entry) {
        const fs::path below = entry.name;
        return below.has_parent_path() ? below.begin()->string() : "";
    };
    const auto has_none = [&](const Entry& entry) { return folder_of(entry).empty(); };
    const auto outside = std::ranges::find_if(entries, has_none);
    if (std::ranges::all_of(entries, has_none)) return {};
    if (outside != entries.end()) {
        throw Error(fmt::format("{}: lies beside sub-folders, which are classes; move it into one of them",
                                display_path(outside->path)));
    }
    for (const auto& entry : entries) classes[class_name(folder_of(entry))] = 0;
    std::vector<std::string> class_names;
    for (auto& [name, label] : classes) {
        label = std::ssize(class_names);
        class_names.push_back(name);
    }
    for (auto& entry : entries) entry.label = classes.at(class_name(folder_of(entry)));
    return class_names;
}

/// Calls work(entry) for all of them, on all threads, with progress.
void for_all(std::vector<Entry>& entries, const std::string& what, const std::function<void(Entry&)>& work) {
    Progress progress(what, std::ssize(entries));
    std::atomic<int64_t> done{0};
    at::parallel_for(0, std::ssize(entries), 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            Entry& entry = entries[size_t(i)];
            try {
                if (entry.problem.empty()) work(entry);
            } catch (const Error& error) {
                entry.problem = error.what();
            } catch (const std::exception& error) {
                entry.problem = fmt::format("{}: {}", display_path(entry.path), error.what());
            }
            progress.update(++done);
        }
    });
}

/// Takes away what is no image by name and content, as captions and notes are, and says so.
void pass_over_others(std::vector<Entry>& entries) {
    const auto is_other = [](const Entry& entry) {
        return !is_image(read_beginning(entry.path, kImageBeginning), entry.path);
    };
    const auto others = std::ranges::stable_partition(entries, std::not_fn(is_other));
    if (others.empty()) return;
    const auto count = std::ssize(others);
    log::info(fmt::format("{} {} passed over, the first {}", count,
                          count == 1 ? "file that is no image is" : "files that are no images are",
                          others.front().name));
    entries.erase(others.begin(), others.end());
}

/// Reads the beginnings of all files, and the checksums of all their bytes.
void look_at(std::vector<Entry>& entries) {
    for_all(entries, "looking at images:", [](Entry& entry) {
        const std::string bytes = read_file(entry.path, kMaxImageBytes);
        entry.crc = crc32_of(bytes);
        entry.head = image_head(bytes, display_path(entry.path));
    });
}

/// A hash of an image's content, uniform over [0, 1).
double content_hash(const Entry& entry) {
    const uint64_t mixed = (entry.crc + uint64_t{1}) * 0x9e3779b97f4a7c15u;
    return double(mixed >> 32) / double(uint64_t{1} << 32);
}

/// Throws Error with the first that is none, or, where options say so, warns of them.
void handle_problems(std::vector<Entry>& entries, const DatasetOptions& options) {
    const auto is_bad = [](const Entry& entry) { return !entry.problem.empty(); };
    const auto bad = std::ranges::count_if(entries, is_bad);
    if (bad == 0) return;
    const auto first = std::ranges::find_if(entries, is_bad);
    const std::string others = bad > 1 ? fmt::format(" (and {} more such files)", bad - 1) : "";
    if (!options.skip_bad) {
        throw Error(fmt::format("{}{}; remove it, or go on without by dataset.skip_bad=true", first->problem, others));
    }
    log::warn(fmt::format("{} of {} files are skipped: {}{}", bad, entries.size(), first->problem, others));
    for (const auto& entry : entries) {
        if (is_bad(entry)) log::debug(fmt::format("skipped: {}", entry.problem));
    }
    std::erase_if(entries, is_bad);
}

/// "32" or "32x48" (height x width).
std::pair<int64_t, int64_t> parse_size(const std::string& text) {
    int height = 0, width = 0, end = 0;
    const bool two = std::sscanf(text.c_str(), "%5dx%5d%n", &height, &width, &end) == 2 && size_t(end) == text.size();
    if (!two) width = std::sscanf(text.c_str(), "%5d%n", &height, &end) == 1 && size_t(end) == text.size() ? height : 0;
    if (height > 0 && width > 0 && height <= 4096 && width <= 4096) return {height, width};
    throw Error(fmt::format(
        "config: dataset.size is \"{}\"; expected a side or HEIGHTxWIDTH up to 4096, e.g. 32 or 32x48", text));
}

/// The size that is asked for, or that all have.
std::pair<int64_t, int64_t> size_of(const std::vector<Entry>& entries, const DatasetOptions& options) {
    if (!options.size.empty()) return parse_size(options.size);
    const Entry& first = entries.front();
    for (const auto& entry : entries) {
        if (entry.head.height == first.head.height && entry.head.width == first.head.width) continue;
        throw Error(fmt::format(
            "the images are of several sizes (height x width): {} is {}x{}, {} is {}x{}; say to which size they are "
            "to be brought, e.g. dataset.size=32 or dataset.size=32x48",
            first.name, first.head.height, first.head.width, entry.name, entry.head.height, entry.head.width));
    }
    return {first.head.height, first.head.width};
}

/// Bytes that this machine could give; none where it does not say.
std::optional<int64_t> available_memory() {
    std::ifstream file("/proc/meminfo");
    std::string key;
    int64_t kilobytes = 0;
    for (std::string rest; file >> key >> kilobytes; std::getline(file, rest)) {
        if (key == "MemAvailable:") return kilobytes * 1024;
    }
    return std::nullopt;
}

void require_memory(int64_t needed) {
    const auto available = available_memory();
    if (!available || needed < *available) return;
    throw Error(
        fmt::format("the images need {:.1f} GiB of memory, and {:.1f} are free; take a smaller dataset.size or "
                    "dataset.limit",
                    double(needed) / double(1 << 30), double(*available) / double(1 << 30)));
}

/// The pixels of the split, uint8 [N, C, H, W], C as the rule says. The others are decoded too, so that all are checked
/// and both splits have the same channels.
torch::Tensor decode(std::vector<Entry>& entries, int64_t count, const ImageRule& rule) {
    require_memory(count * rule.channels * rule.height * rule.width);
    auto pixels = torch::empty({count, rule.channels, rule.height, rule.width}, torch::kUInt8);
    for_all(entries, "reading images:", [&](Entry& entry) {
        const std::string bytes = read_file(entry.path, kMaxImageBytes);
        const std::string name = display_path(entry.path);
        const DecodedImage decoded = decode_image(bytes, name);
        entry.converted = decoded.converted;
        entry.remark = decoded.remark;
        const auto whole = with_channels(decoded.pixels, rule, name);
        entry.colours = has_colours(whole);
        entry.enlarged = whole.size(1) < rule.height || whole.size(2) < rule.width;
        if (entry.slot >= 0) pixels[entry.slot].copy_(fitted(whole, rule.height, rule.width));
    });
    return pixels;
}

/// Gives those of the split their places, and returns how many they are. entries: in the order of their hashes. Of each
/// class the last is for training, whatever its hash.
int64_t choose(std::vector<Entry>& entries, const DatasetOptions& options, Split split) {
    std::map<int64_t, const Entry*> kept;
    for (const auto& entry : entries) kept[entry.label] = &entry;
    int64_t count = 0;
    for (auto& entry : entries) {
        const bool is_held_out = content_hash(entry) < options.test_share && kept.at(entry.label) != &entry;
        if (is_held_out == (split == Split::kTest)) entry.slot = count++;
    }
    if (count > 0) return count;
    throw Error(fmt::format("{}: of {} images none is for tests; see dataset.test_share", display_path(options.dir),
                            entries.size()));
}

/// What decoders and profiles had to say of images that were read.
std::string remarks(const std::vector<Entry>& entries) {
    const auto has_remark = [](const Entry& entry) { return !entry.remark.empty(); };
    const auto count = std::ranges::count_if(entries, has_remark);
    if (count == 0) return "";
    const auto by_name = [&](const Entry& entry) { return std::pair(!has_remark(entry), entry.name); };
    const auto first = std::ranges::min_element(entries, {}, by_name);
    return fmt::format("; {} read with a warning, the first {}: {}", count, first->name, first->remark);
}

/// What was done, for those who look at the run later.
std::string story(const std::vector<Entry>& entries, const DatasetOptions& options, const ImageRule& rule) {
    std::map<std::string, int64_t> formats;
    int64_t fitting = 0, enlarged = 0, converted = 0;
    for (const auto& entry : entries) {
        ++formats[entry.head.format];
        fitting += entry.head.height == rule.height && entry.head.width == rule.width;
        enlarged += entry.enlarged;
        converted += entry.converted;
    }
    std::vector<std::string> parts;
    for (const auto& [format, count] : formats) parts.push_back(fmt::format("{} {}", count, format));
    std::string text = fmt::format("{} files, {}", fmt::join(parts, ", "),
                                   rule.channels == 1 ? "grey"
                                   : options.channels ? "RGB"
                                                      : "RGB since some have colours");
    if (const int64_t changed = std::ssize(entries) - fitting; changed > 0) {
        text += fmt::format("; {} of them cropped around the middle and averaged to {}x{}", changed, rule.height,
                            rule.width);
    }
    if (enlarged > 0) {
        text += fmt::format(", {} of which enlarged", enlarged);
        log::warn(
            fmt::format("{} images are smaller than {}x{}: they are enlarged", enlarged, rule.height, rule.width));
    }
    if (converted > 0) text += fmt::format("; {} converted to sRGB from the colours that they tell", converted);
    return text + remarks(entries) + fmt::format("; a share of {} held out for tests", options.test_share);
}

/// The user's folder for what can be made again; none where it cannot be told.
std::optional<fs::path> cache_folder() {
    const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
    if (cache && *cache) return fs::path(cache) / "diffuse";
    if (home && *home) return fs::path(home) / ".cache" / "diffuse";
    return std::nullopt;
}

/// FNV-1a (Fowler, Noll, Vo; 64 bits) of the names and contents of all files and of the options.
std::string cache_key(const std::vector<Entry>& entries, const DatasetOptions& options, Split split) {
    std::string text = fmt::format("4 {} {} {} {} {} {}\n", options.channels.value_or(0), options.size,
                                   options.background, options.test_share, options.skip_bad, split == Split::kTest);
    for (const auto& entry : entries) text += fmt::format("{} {:08x}\n", entry.name, entry.crc);
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char c : text) hash = (hash ^ uint8_t(c)) * 0x100000001b3u;
    return fmt::format("{:016x}", hash);
}

constexpr const char *kCachePrefix = "images-", *kCacheEnding = ".safetensors";

/// Removes all but the newest ones.
void clean_cache(const fs::path& folder) {
    std::error_code error;
    std::vector<std::pair<fs::file_time_type, fs::path>> all;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        if (!name.starts_with(kCachePrefix) || !name.ends_with(kCacheEnding)) continue;
        all.emplace_back(fs::last_write_time(entry.path(), error), entry.path());
    }
    std::ranges::sort(all, std::greater<>());
    for (size_t i = kKeptCaches; i < all.size(); ++i) fs::remove(all[i].second, error);
}

void write_cache(const fs::path& file, const Dataset& dataset) {
    if (dataset.examples.nbytes() > kMaxCacheBytes) return;
    try {
        create_folder(file.parent_path());
        const torch::Tensor& labels = dataset.condition.classes;
        TensorFile content{{{"images", dataset.examples}}, {{"about", dataset.spec.about}}};
        if (labels.defined()) content.tensors["labels"] = labels;
        write_tensor_file(file, content);
        log::debug(fmt::format("the decoded images are kept in {}", display_path(file)));
        clean_cache(file.parent_path());
    } catch (const Error& error) {
        log::debug(fmt::format("the decoded images cannot be kept: {}", error.what()));
    }
}

/// What was kept, if it is whole.
std::optional<Dataset> read_cache(const fs::path& file) {
    if (!path_exists(file)) return std::nullopt;
    try {
        const TensorFile content = read_tensor_file(file);
        Dataset dataset = image_dataset(content.at("images", file));
        if (content.tensors.contains("labels")) dataset.condition.classes = content.at("labels", file);
        dataset.spec.about = content.metadata.at("about");
        std::error_code ignored;
        fs::last_write_time(file, fs::file_time_type::clock::now(), ignored);  // it is in use
        return dataset;
    } catch (const std::exception&) {
        return std::nullopt;  // damaged: it is made again
    }
}

Dataset decode_folder(std::vector<Entry> entries, int64_t files, const DatasetOptions& options, Split split) {
    const bool all_grey = std::ranges::all_of(entries, [](const Entry& entry) { return entry.head.grey; });
    ImageRule rule{.channels = options.channels.value_or(all_grey ? 1 : 3),
                   .background = parse_colour(options.background)};
    std::tie(rule.height, rule.width) = size_of(entries, options);
    auto pixels = decode(entries, choose(entries, options, split), rule);
    handle_problems(entries, options);

    std::vector<int64_t> slots, labels;
    for (const auto& entry : entries) {
        if (entry.slot < 0) continue;
        slots.push_back(entry.slot);
        labels.push_back(entry.label);
    }
    if (std::ssize(slots) < pixels.size(0)) pixels = pixels.index_select(0, torch::tensor(slots, torch::kInt64));
    const bool grey = std::ranges::none_of(entries, [](const Entry& entry) { return entry.colours; });
    if (!options.channels && grey && rule.channels == 3) pixels = pixels.narrow(1, 0, rule.channels = 1).clone();
    Dataset dataset = image_dataset(pixels);
    dataset.spec.about = story(entries, options, rule);
    if (const int64_t skipped = files - std::ssize(entries); skipped > 0) {
        dataset.spec.about += fmt::format("; {} bad files skipped", skipped);
    }
    if (!labels.empty() && labels.front() >= 0) dataset.condition.classes = torch::tensor(labels, torch::kInt64);
    return dataset;
}

}  // namespace

Dataset load_image_folder(const DatasetOptions& options, Split split) {
    if (options.channels == 2) throw Error("config: dataset.channels is 2; expected 1, 3 or auto");
    if (!options.size.empty()) parse_size(options.size);
    parse_colour(options.background);
    const fs::path folder = named_folder(options);
    require_folder(folder);
    auto entries = list_files(folder);
    pass_over_others(entries);
    const int64_t files = std::ssize(entries);
    look_at(entries);
    // So that the first ones, and those that are added, are of all classes.
    std::ranges::sort(entries, {}, [](const Entry& entry) { return std::pair(content_hash(entry), entry.name); });
    handle_problems(entries, options);
    if (entries.empty()) throw Error(fmt::format("no PNG or JPEG file in {}", display_path(folder)));
    const auto class_names = assign_classes(entries);

    const auto kept_in = cache_folder();
    const fs::path file = kept_in.value_or("") / (kCachePrefix + cache_key(entries, options, split) + kCacheEnding);
    auto dataset = kept_in ? read_cache(file) : std::nullopt;
    if (!dataset) {
        dataset = decode_folder(std::move(entries), files, options, split);
        if (kept_in && options.fills_cache) write_cache(file, *dataset);
    }
    dataset->spec.condition.classes = {std::ssize(class_names), class_names};
    if (split == Split::kTrain) log::info(dataset->spec.about);
    return *std::move(dataset);
}

}  // namespace diffuse
