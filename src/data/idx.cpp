#include "diffuse/data/idx.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <cstring>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"

namespace diffuse {
namespace {

constexpr int64_t kMaxPayload = int64_t{1} << 31;  ///< 2 GiB; MNIST's training images are 47 MB
constexpr int64_t kMaxHeader = 4 + 4 * 4;

/// The bytes of a file, unpacked on the way when they are gzip's.
class ByteSource {
public:
    explicit ByteSource(const std::filesystem::path& path)
        : path_(path), file_(read_file(path, kMaxPayload + kMaxHeader)), packed_(file_.starts_with("\x1f\x8b")) {
        stream_.next_in = reinterpret_cast<uint8_t*>(file_.data());
        stream_.avail_in = unsigned(file_.size());
        if (packed_ && inflateInit2(&stream_, kGzipWindow) != Z_OK) fail("zlib cannot be started");
    }
    ~ByteSource() {
        if (packed_) inflateEnd(&stream_);
    }
    ByteSource(const ByteSource&) = delete;
    ByteSource& operator=(const ByteSource&) = delete;

    [[noreturn]] void fail(const std::string& what) const {
        throw Error(fmt::format("{}: {}", display_path(path_), what));
    }

    /// Reads up to `count` bytes; fewer only at the end of the file.
    int64_t read(uint8_t* out, int64_t count) {
        stream_.next_out = out;
        stream_.avail_out = unsigned(count);
        if (packed_)
            unpack();
        else
            copy();
        return count - int64_t(stream_.avail_out);
    }

private:
    void copy() {
        const unsigned count = std::min(stream_.avail_in, stream_.avail_out);
        std::memcpy(stream_.next_out, stream_.next_in, count);
        stream_.next_in += count, stream_.avail_in -= count, stream_.avail_out -= count;
    }
    void unpack() {
        while (stream_.avail_out > 0 && !ended_) {
            const int result = inflate(&stream_, Z_NO_FLUSH);
            ended_ = result == Z_STREAM_END;
            if (result != Z_OK && !ended_) fail("the gzip data is damaged or cut short");
            if (ended_ && stream_.avail_in > 1 && stream_.next_in[0] == 0x1f && stream_.next_in[1] == 0x8b) {
                ended_ = inflateReset(&stream_) != Z_OK;  // gzip files put behind one another are one (RFC 1952)
            }
        }
        if (ended_ && stream_.avail_in > 0) fail(fmt::format("{} bytes follow the gzip data", stream_.avail_in));
    }

    static constexpr int kGzipWindow = 15 + 16;  ///< the largest window; and gzip's header and checksum
    std::filesystem::path path_;
    std::string file_;
    bool packed_, ended_ = false;
    z_stream stream_{};
};

int64_t big_endian(const uint8_t* bytes) {
    return int64_t{bytes[0]} << 24 | int64_t{bytes[1]} << 16 | int64_t{bytes[2]} << 8 | int64_t{bytes[3]};
}

/// The number of dimensions that the magic number says.
int check_magic(const ByteSource& file, const uint8_t* magic, int expected) {
    if (magic[0] != 0 || magic[1] != 0 || magic[2] != 8) {
        file.fail(
            fmt::format("not an IDX file of bytes: it begins {:02x} {:02x} {:02x} {:02x}, expected 00 00 08 {:02x}",
                        magic[0], magic[1], magic[2], magic[3], expected == 0 ? 3 : expected));
    }
    const int found = magic[3];
    const bool fits = expected == 0 ? found == 3 || found == 4 : found == expected;
    if (!fits) {
        file.fail(
            fmt::format("holds {}-dimensional data where {}-dimensional is expected (images have {}, labels 1); "
                        "are the files mixed up?",
                        found, expected == 0 ? "3- or 4" : std::to_string(expected), expected == 0 ? "3 or 4" : "3"));
    }
    return found;
}

std::vector<int64_t> read_shape(ByteSource& file, int expected) {
    std::vector<uint8_t> header(4);
    int64_t got = file.read(header.data(), 4);
    const int dimensions = got < 4 ? 0 : check_magic(file, header.data(), expected);
    header.resize(size_t(4 + 4 * dimensions));
    got += file.read(header.data() + 4, 4 * dimensions);
    if (got < 4 || got < int64_t(header.size())) {
        file.fail(fmt::format("truncated: {} bytes, less than its header", got));
    }
    std::vector<int64_t> shape;
    int64_t payload = 1;
    for (int i = 0; i < dimensions; ++i) {
        shape.push_back(big_endian(header.data() + 4 + 4 * i));
        if (shape.back() == 0 || shape.back() > kMaxPayload / payload) {
            file.fail(fmt::format("the header claims an impossible size: dimension {} is {}", i, shape.back()));
        }
        payload *= shape.back();
    }
    return shape;
}

}  // namespace

torch::Tensor read_idx(const std::filesystem::path& path, int dimensions) {
    ByteSource file(path);
    const auto shape = read_shape(file, dimensions);
    const int64_t payload = c10::multiply_integers(shape);
    // Grown as the data comes, so that a header that lies costs no more memory than the file has bytes.
    std::vector<uint8_t> bytes;
    while (int64_t(bytes.size()) < payload) {
        const int64_t chunk =
            std::min<int64_t>(payload - int64_t(bytes.size()), std::max<int64_t>(1 << 20, int64_t(bytes.size())));
        const size_t before = bytes.size();
        bytes.resize(before + size_t(chunk));
        const int64_t got = file.read(bytes.data() + before, chunk);
        if (got < chunk) {
            file.fail(
                fmt::format("truncated: {} bytes of data, the header promises {}", int64_t(before) + got, payload));
        }
    }
    uint8_t extra;
    if (file.read(&extra, 1) != 0)
        file.fail(fmt::format("too long: more data than the {} bytes the header promises", payload));
    return torch::from_blob(bytes.data(), shape, torch::kUInt8).clone();
}

}  // namespace diffuse
