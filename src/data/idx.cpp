#include "diffuse/data/idx.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <functional>
#include <memory>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"

namespace diffuse {
namespace {

constexpr int64_t kMaxIdxPayload = int64_t{1} << 31;  ///< 2 GiB; MNIST's training images are 47 MB
constexpr int64_t kMaxIdxBytes = kMaxIdxPayload + 4 + 4 * 4;
constexpr std::string_view kGzip = "\x1f\x8b";

/// Throws Error naming the file.
using Fail = std::function<void(const std::string& what)>;

/// What a gzip file holds, or several put behind one another, which are one (RFC 1952).
std::string unpacked(std::string_view packed, const Fail& fail) {
    constexpr int kWindow = 15 + 16;  // the largest window; and gzip's header and checksum
    constexpr unsigned kIdxChunk = 1 << 20;
    z_stream stream{};
    stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(packed.data()));
    stream.avail_in = unsigned(packed.size());
    if (inflateInit2(&stream, kWindow) != Z_OK) fail("zlib cannot be started");
    const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
    std::string bytes, part(kIdxChunk, '\0');
    while (std::ssize(bytes) <= kMaxIdxBytes) {
        stream.next_out = reinterpret_cast<uint8_t*>(part.data());
        stream.avail_out = kIdxChunk;
        const int result = inflate(&stream, Z_NO_FLUSH);
        bytes.append(part, 0, kIdxChunk - stream.avail_out);
        if (result != Z_OK && result != Z_STREAM_END) fail("the gzip data is damaged or cut short");
        if (result != Z_STREAM_END) continue;
        const auto rest = packed.substr(packed.size() - stream.avail_in);
        if (rest.empty()) break;
        if (!rest.starts_with(kGzip)) fail(fmt::format("{} bytes follow the gzip data", rest.size()));
        inflateReset(&stream);
    }
    return bytes;
}

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
    if (bytes.starts_with(kGzip)) bytes = unpacked(bytes, fail);
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
