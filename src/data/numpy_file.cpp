#include "diffuse/data/numpy_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <regex>

#include "data/checksum.hpp"
#include "data/inflate.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

static_assert(std::endian::native == std::endian::little, "so are the arrays that are read");

using Arrays = std::map<std::string, torch::Tensor>;
using Fail = std::function<void(const std::string& what)>;

constexpr int64_t kMaxArrayBytes = int64_t{1} << 32;
constexpr std::string_view kNpy("\x93NUMPY", 6), kZipEntry("PK\x03\x04", 4), kZipListed("PK\x01\x02", 4),
    kZipEnd("PK\x05\x06", 4);

const Table<torch::ScalarType>& numpy_types() {
    static const Table<torch::ScalarType> table = {
        {"<f2", torch::kFloat16}, {"<f4", torch::kFloat32}, {"<f8", torch::kFloat64}};
    return table;
}

/// The whole number in these bytes, of which the first counts least. Fails where the file ends before.
int64_t little_endian_at(std::string_view bytes, size_t at, size_t size, const Fail& fail) {
    if (at > bytes.size() || size > bytes.size() - at) fail("it is cut short");
    int64_t value = 0;
    for (size_t i = size; i > 0; --i) value = value << 8 | uint8_t(bytes[at + i - 1]);
    return value;
}

std::string_view part_of(std::string_view bytes, int64_t at, int64_t size, const Fail& fail) {
    const auto all = std::ssize(bytes);
    if (at < 0 || at > all || size < 0 || size > all - at) fail("it is cut short");
    return bytes.substr(size_t(at), size_t(size));
}

/// What the header of an array says: a literal of Python, as NumPy writes it.
struct NpyHeader {
    std::string type;
    bool fortran = false;
    std::vector<int64_t> shape;
};

NpyHeader npy_header(std::string_view text, const Fail& fail) {
    static const std::regex pattern(
        R"(\{ ?'descr': ?'([^']{0,20})', ?'fortran_order': ?(True|False), ?'shape': ?\(([0-9, ]*)\),? ?\})");
    constexpr size_t kLongest = 500;  // the expression takes a call for each character
    while (text.ends_with(' ') || text.ends_with('\n')) text.remove_suffix(1);
    std::smatch match;
    const std::string whole(text.substr(0, kLongest));
    if (text.size() > kLongest || !std::regex_match(whole, match, pattern)) {
        fail(fmt::format("its header is none of an array of plain numbers: {}", log::printable(whole.substr(0, 100))));
    }
    NpyHeader header{match[1], match[2] == "True", {}};
    const std::string sizes = match[3];
    const char *at = sizes.data(), *end = at + sizes.size();
    while (at != end) {
        if (*at == ',' || *at == ' ') {
            ++at;
            continue;
        }
        const auto [next, problem] = std::from_chars(at, end, header.shape.emplace_back());
        if (problem != std::errc()) fail("its header claims an impossible size");
        at = next;
    }
    return header;
}

torch::Tensor parse_npy(std::string_view bytes, const Fail& fail) {
    const int64_t version = little_endian_at(bytes, kNpy.size(), 1, fail);
    if (version != 1 && version != 2) fail(fmt::format("version {} of the format is not known", version));
    const int64_t begin = version == 1 ? 10 : 12;
    const int64_t length = little_endian_at(bytes, 8, size_t(begin - 8), fail);
    const NpyHeader header = npy_header(part_of(bytes, begin, length, fail), fail);
    const auto* type = find(numpy_types(), header.type);
    if (!type) {
        fail(fmt::format("its numbers are of type '{}'; save them as float32 or float64 (array.astype)",
                         log::printable(header.type)));
    }
    int64_t size = int64_t(c10::elementSize(*type));
    for (const int64_t side : header.shape) {
        if (side > 0 && size > kMaxArrayBytes / side) fail("its header claims an impossible size");
        size *= side;
    }
    const int64_t found = std::ssize(bytes) - begin - length;
    if (found != size) fail(fmt::format("it has {} bytes of numbers, its header promises {}", found, size));
    auto shape = header.shape;
    if (header.fortran) std::ranges::reverse(shape);
    const auto array = torch::empty(shape, *type);
    std::copy_n(bytes.data() + begin + length, size_t(size), static_cast<char*>(array.data_ptr()));
    std::vector<int64_t> order(shape.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = std::ssize(order) - 1 - int64_t(i);
    return header.fortran ? array.permute(order).contiguous() : array;
}

/// Where the list of a zip file's entries begins, and how many they are.
struct ZipList {
    int64_t begin, count;
};

ZipList zip_list(std::string_view bytes, const Fail& fail) {
    constexpr int64_t kEndBytes = 22;
    const size_t end = bytes.rfind(kZipEnd);
    if (end == bytes.npos) fail("the list of its arrays is missing: it is cut short");
    const auto at = [&](size_t offset, size_t size) { return little_endian_at(bytes, end + offset, size, fail); };
    if (int64_t(end) + kEndBytes + at(20, 2) != std::ssize(bytes)) fail("bytes follow the list of its arrays");
    const ZipList list{at(16, 4), at(10, 2)};
    if (at(4, 4) != 0 || at(8, 2) != list.count) fail("it is one of several parts");
    if (list.begin == 0xffffffff || list.count == 0xffff) fail("it is larger than 4 GiB; save .npy files");
    return list;
}

/// An entry's bytes, unpacked. `at`: where the list has it.
std::string zip_entry(std::string_view bytes, size_t at, const Fail& fail) {
    constexpr int64_t kHeaderBytes = 30, kStored = 0, kDeflated = 8, kEncrypted = 1;
    const auto listed = [&](size_t offset, size_t size) { return little_endian_at(bytes, at + offset, size, fail); };
    const int64_t method = listed(10, 2), crc = listed(16, 4), packed = listed(20, 4), size = listed(24, 4),
                  header = listed(42, 4);
    if (packed == 0xffffffff || size == 0xffffffff) fail("it is larger than 4 GiB; save .npy files");
    if (listed(8, 2) & kEncrypted) fail("it is encrypted");
    if (!part_of(bytes, header, kHeaderBytes, fail).starts_with(kZipEntry)) fail("the list of its arrays is damaged");
    const int64_t names =
        little_endian_at(bytes, size_t(header) + 26, 2, fail) + little_endian_at(bytes, size_t(header) + 28, 2, fail);
    const auto content = part_of(bytes, header + kHeaderBytes + names, packed, fail);
    if (method != kStored && method != kDeflated) fail(fmt::format("packing {} is not known", method));
    const std::string unpacked =
        method == kStored ? std::string(content) : inflated(content, Packing::kDeflated, size, fail);
    if (std::ssize(unpacked) != size || crc32_of(unpacked) != crc) fail("it is damaged");
    return unpacked;
}

Arrays parse_npz(std::string_view bytes, const Fail& fail) {
    constexpr size_t kListedBytes = 46;
    const auto [begin, count] = zip_list(bytes, fail);
    Arrays arrays;
    size_t at = size_t(begin);
    for (int64_t i = 0; i < count; ++i) {
        if (!part_of(bytes, int64_t(at), kListedBytes, fail).starts_with(kZipListed)) {
            fail("the list of its arrays is damaged");
        }
        const auto length = [&](size_t offset) { return little_endian_at(bytes, at + offset, 2, fail); };
        std::string name(part_of(bytes, int64_t(at + kListedBytes), length(28), fail));
        if (name.ends_with(".npy")) name.resize(name.size() - 4);
        const Fail fail_in = [&](const std::string& what) {
            fail(fmt::format("its array '{}': {}", log::printable(name), what));
        };
        const std::string npy = zip_entry(bytes, at, fail_in);
        if (!npy.starts_with(kNpy)) fail_in("it is no array of NumPy");
        if (!arrays.emplace(name, parse_npy(npy, fail_in)).second) fail_in("there are two");
        at += kListedBytes + size_t(length(28) + length(30) + length(32));
    }
    return arrays;
}

}  // namespace

bool is_numpy(std::string_view beginning) { return beginning.starts_with(kNpy) || beginning.starts_with(kZipEntry); }

Arrays parse_numpy(std::string_view bytes, const std::string& name) {
    const Fail fail = [&](const std::string& what) { throw Error(fmt::format("{}: {}", name, what)); };
    if (bytes.starts_with(kNpy)) return {{"", parse_npy(bytes, fail)}};
    if (!bytes.starts_with(kZipEntry)) fail("it is no file of NumPy");
    return parse_npz(bytes, fail);
}

Arrays read_numpy(const std::filesystem::path& path) {
    return parse_numpy(read_file(path, uintmax_t(kMaxArrayBytes)), display_path(path));
}

}  // namespace diffuse
