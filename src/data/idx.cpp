#include "diffuse/data/idx.hpp"

#include <fmt/format.h>

#include <functional>

#include "data/inflate.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"

namespace diffuse {
namespace {

constexpr int64_t kMaxIdxPayload = int64_t{1} << 31;  ///< 2 GiB; MNIST's training images are 47 MB
constexpr int64_t kMaxIdxBytes = kMaxIdxPayload + 4 + 4 * 4;

/// Throws Error naming the file.
using Fail = std::function<void(const std::string& what)>;

int64_t big_endian_at(std::string_view bytes, size_t at) {
    int64_t value = 0;
    for (const char byte : bytes.substr(at, 4)) value = value << 8 | uint8_t(byte);
    return value;
}

/// The number of dimensions that the magic number says.
int check_magic(std::string_view magic, int expected, const Fail& fail) {
    if (!magic.starts_with(std::string_view("\0\0\x08", 3))) {
        fail(fmt::format("not an IDX file of bytes: it begins {:02x} {:02x} {:02x} {:02x}, expected 00 00 08 {:02x}",
                         uint8_t(magic[0]), uint8_t(magic[1]), uint8_t(magic[2]), uint8_t(magic[3]),
                         expected == 0 ? 3 : expected));
    }
    const int found = uint8_t(magic[3]);
    const bool fits = expected == 0 ? found == 3 || found == 4 : found == expected;
    if (!fits) {
        fail(
            fmt::format("holds {}-dimensional data where {}-dimensional is expected (images have {}, labels 1); "
                        "are the files mixed up?",
                        found, expected == 0 ? "3- or 4" : std::to_string(expected), expected == 0 ? "3 or 4" : "3"));
    }
    return found;
}

std::vector<int64_t> shape_in(std::string_view bytes, int expected, const Fail& fail) {
    const int dimensions = bytes.size() < 4 ? 0 : check_magic(bytes.substr(0, 4), expected, fail);
    if (bytes.size() < 4 + 4 * size_t(dimensions)) {
        fail(fmt::format("truncated: {} bytes, less than its header", bytes.size()));
    }
    std::vector<int64_t> shape;
    int64_t payload = 1;
    for (int i = 0; i < dimensions; ++i) {
        shape.push_back(big_endian_at(bytes, 4 + 4 * size_t(i)));
        if (shape.back() == 0 || shape.back() > kMaxIdxPayload / payload) {
            fail(fmt::format("the header claims an impossible size: dimension {} is {}", i, shape.back()));
        }
        payload *= shape.back();
    }
    return shape;
}

}  // namespace

torch::Tensor read_idx(const std::filesystem::path& path, int dimensions) {
    const Fail fail = [&](const std::string& what) { throw Error(fmt::format("{}: {}", display_path(path), what)); };
    std::string bytes = read_file(path, kMaxIdxBytes);
    if (bytes.starts_with(kGzip)) bytes = inflated(bytes, Packing::kGzipFile, kMaxIdxBytes, fail);
    const auto shape = shape_in(bytes, dimensions, fail);
    const int64_t header = 4 + 4 * std::ssize(shape), payload = c10::multiply_integers(shape);
    const int64_t found = std::ssize(bytes) - header;
    if (found < payload) {
        fail(fmt::format("truncated: {} bytes of data, the header promises {}", found, payload));
    }
    if (found > payload) fail(fmt::format("too long: more data than the {} bytes the header promises", payload));
    return torch::from_blob(bytes.data() + header, shape, torch::kUInt8).clone();
}

}  // namespace diffuse
