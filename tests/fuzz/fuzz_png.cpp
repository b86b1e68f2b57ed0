#include <zlib.h>

#include <string>

#include "diffuse/base/file.hpp"
#include "diffuse/data/image.hpp"
#include "fuzzing.hpp"

namespace {

/// Sets the checksums of a PNG's chunks right, so that what is inside them is tried too. Odd sizes are left as they
/// are, for the reader to refuse.
std::string with_checksums(std::string bytes) {
    const auto number = [&](size_t at) {
        uint32_t value = 0;
        for (size_t i = at; i < at + 4; ++i) value = value << 8 | uint8_t(bytes[i]);
        return value;
    };
    for (size_t at = 8; at + 12 <= bytes.size() && number(at) <= bytes.size() - at - 12; at += 12 + number(at)) {
        const size_t length = number(at);
        const auto checksum = crc32_z(0, reinterpret_cast<const uint8_t*>(bytes.data()) + at + 4, 4 + length);
        for (size_t i = 0; i < 4; ++i) bytes[at + 8 + length + i] = char(checksum >> (24 - 8 * i));
    }
    return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string bytes = with_checksums({reinterpret_cast<const char*>(data), size});
    return diffuse::offer(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
                          [](const auto& path) { diffuse::decode_image(diffuse::read_file(path, 1 << 26), "a.png"); });
}
