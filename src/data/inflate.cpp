#include "data/inflate.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <memory>

namespace diffuse {

std::string inflated(std::string_view packed, Packing packing, int64_t max_bytes,
                     const std::function<void(const std::string& what)>& fail) {
    constexpr unsigned kPart = 1 << 20;
    const char* const name = packing == Packing::kGzipFile ? "gzip" : "deflated";
    z_stream stream{};
    stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(packed.data()));
    stream.avail_in = unsigned(packed.size());
    if (inflateInit2(&stream, int(packing)) != Z_OK) fail("zlib cannot be started");
    const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
    std::string bytes, part(kPart, '\0');
    while (std::ssize(bytes) <= max_bytes) {
        stream.next_out = reinterpret_cast<uint8_t*>(part.data());
        stream.avail_out = kPart;
        const int result = inflate(&stream, Z_NO_FLUSH);
        bytes.append(part, 0, kPart - stream.avail_out);
        if (result != Z_OK && result != Z_STREAM_END) fail(fmt::format("the {} data is damaged or cut short", name));
        if (result != Z_STREAM_END) continue;
        const auto rest = packed.substr(packed.size() - stream.avail_in);
        if (rest.empty()) break;
        const bool goes_on = packing == Packing::kGzipFile && rest.starts_with(kGzip);
        if (!goes_on) fail(fmt::format("{} bytes follow the {} data", rest.size(), name));
        inflateReset(&stream);
    }
    return bytes;
}

}  // namespace diffuse
