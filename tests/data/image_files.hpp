#pragma once

#include <turbojpeg.h>
#include <zlib.h>

#include <memory>
#include <string>

#include "diffuse/data/png.hpp"
#include "testing.hpp"

/// Files of images as other programs write them.
namespace diffuse {

/// An image without sharp edges, which JPEG keeps to a few grey values: red grows to the right, green downwards.
inline torch::Tensor gradient(int64_t height, int64_t width) {
    const auto across = torch::linspace(20, 230, width).view({1, 1, width}).expand({1, height, width});
    const auto down = torch::linspace(230, 20, height).view({1, height, 1}).expand({1, height, width});
    return torch::cat({across, down, torch::full({1, height, width}, 100.0)}).round().to(torch::kUInt8);
}

/// A JPEG file of [C, H, W], C 1, 3, or 4 for CMYK, at the best quality.
inline std::string jpeg_of(const torch::Tensor& image) {
    const auto rows = image.permute({1, 2, 0}).contiguous();
    const int channels = int(rows.size(2));
    const std::unique_ptr<void, int (*)(tjhandle)> coder(tjInitCompress(), tjDestroy);
    unsigned char* bytes = nullptr;
    unsigned long size = 0;
    const int format = channels == 1 ? TJPF_GRAY : channels == 3 ? TJPF_RGB : TJPF_CMYK;
    const int failed = tjCompress2(coder.get(), rows.data_ptr<uint8_t>(), int(rows.size(1)), 0, int(rows.size(0)),
                                   format, &bytes, &size, channels == 1 ? TJSAMP_GRAY : TJSAMP_444, 100, 0);
    EXPECT_EQ(failed, 0);
    std::string result(reinterpret_cast<char*>(bytes), size);
    tjFree(bytes);
    return result;
}

/// With a segment behind the first two bytes (ITU-T T.81, annex B.1.1.4).
inline std::string with_segment(const std::string& jpeg, char marker, const std::string& body) {
    const size_t length = body.size() + 2;
    return jpeg.substr(0, 2) + "\xff" + marker + char(length >> 8) + char(length & 255) + body + jpeg.substr(2);
}

/// A number's four bytes, the first the largest.
inline std::string big_endian_bytes(uint32_t n) { return {char(n >> 24), char(n >> 16), char(n >> 8), char(n)}; }

/// A PNG file of [C, H, W].
inline std::string png_of(const torch::Tensor& image) {
    const TemporaryFolder folder;
    write_png(folder / "a.png", image);
    return read_file(folder / "a.png", 1 << 20);
}

/// With a chunk behind the header (PNG specification, section 5.3).
inline std::string with_chunk(std::string png, const std::string& type, const std::string& data) {
    constexpr size_t kHeaderEnd = 33;
    const std::string body = type + data;
    const auto crc = uint32_t(crc32_z(0, reinterpret_cast<const uint8_t*>(body.data()), body.size()));
    return png.insert(kHeaderEnd, big_endian_bytes(uint32_t(data.size())) + body + big_endian_bytes(crc));
}

inline std::string deflated(const std::string& bytes) {
    uLongf size = compressBound(bytes.size());
    std::string packed(size, '\0');
    compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
             bytes.size());
    return packed.substr(0, size);
}

/// Exif data with nothing but a tag of orientation (Exif 2.3, section 4.6.2), big-endian, stored as SHORT or LONG.
inline std::string exif_of(int orientation, bool as_long = false) {
    using namespace std::string_literals;
    const std::string number = as_long ? "\0\0\0"s + char(orientation) : "\0"s + char(orientation) + "\0\0"s;
    return "MM\0*\0\0\0\x08\0\x01\x01\x12\0"s + (as_long ? "\x04" : "\x03") + "\0\0\0\x01"s + number + "\0\0\0\0"s;
}

}  // namespace diffuse
