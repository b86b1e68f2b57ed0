#include "diffuse/data/png.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <sstream>

#include "data/checksum.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 16384
#include <stb_image.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace diffuse {
namespace {

constexpr uintmax_t kMaxPngBytes = uintmax_t{64} << 20;
constexpr uint64_t kDeflateLimit = 1032;
constexpr std::string_view kSignature("\x89PNG\r\n\x1a\n", 8);
constexpr size_t kHeaderEnd = 8 + 12 + 13;  ///< of the signature and the chunk IHDR
constexpr size_t kExifHeaderBytes = 6;

uint32_t number_at(std::string_view bytes, size_t at) {
    uint32_t value = 0;
    for (size_t i = at; i < at + 4; ++i) value = value << 8 | uint8_t(bytes[i]);
    return value;
}

std::string big_endian(uint32_t value) { return {char(value >> 24), char(value >> 16), char(value >> 8), char(value)}; }

/// A part of a PNG file: PNG specification (W3C), section 5.3.
struct Chunk {
    std::string_view type, data;
};

/// Takes a file apart into chunks. stb takes no notice of much that is looked at here: that chunks lie within the file
/// and end with it, that their checksums are right, and that the size which the header claims can be in so few bytes.
/// Returns what is wrong, or nothing (sections 5.2, 5.3 and 11.2.2).
std::string take_apart(std::string_view bytes, std::vector<Chunk>& chunks) {
    if (!is_png(bytes)) return "it does not begin as one";
    if (bytes.size() >= kHeaderEnd && bytes.substr(kSignature.size() + 4, 4) == "CgBI") {
        return "it is Apple's own kind of it (CgBI), as programs for iPhones have it; turn it back by: xcrun -sdk "
               "iphoneos "
               "pngcrush -revert-iphone-optimizations IN.png OUT.png";
    }
    uint64_t pixels = 0, compressed = 0;
    for (size_t at = kSignature.size();;) {
        if (bytes.size() - at < 12 || number_at(bytes, at) > bytes.size() - at - 12) return "it is cut short";
        const size_t length = number_at(bytes, at);
        const Chunk chunk{bytes.substr(at + 4, 4), bytes.substr(at + 8, length)};
        if (crc32_of(bytes.substr(at + 4, 4 + length)) != number_at(bytes, at + 8 + length)) {
            return fmt::format("a chunk at byte {} is damaged", at);
        }
        if ((chunk.type == "IHDR") != chunks.empty() || (chunk.type == "IHDR" && length != 13)) {
            return "its header is not where it belongs";
        }
        if (chunk.type == "IHDR") pixels = uint64_t{number_at(chunk.data, 0)} * number_at(chunk.data, 4);
        if (chunk.type == "IDAT") compressed += length;
        chunks.push_back(chunk);
        at += 12 + length;
        if (chunk.type != "IEND") continue;
        // A pixel takes at least a bit, and deflate packs at most 1032 bytes into one.
        if (pixels / 8 > kDeflateLimit * compressed) return "its size cannot be in so few bytes";
        return at == bytes.size() ? "" : "bytes follow its end";
    }
}

std::vector<Chunk> chunks_of(std::string_view bytes, const std::string& name) {
    std::vector<Chunk> chunks;
    const auto problem = take_apart(bytes, chunks);
    if (problem.empty()) return chunks;
    throw Error(fmt::format("{}: not a readable PNG file: {}", name, problem));
}

/// The chunk iTXt of a text that is neither compressed nor in a language that is told (section 11.3.3.4).
std::string text_chunk(const std::string& keyword, const std::string& text) {
    const std::string body = "iTXt" + keyword + std::string(5, '\0') + text;
    return big_endian(uint32_t(body.size() - 4)) + body + big_endian(crc32_of(body));
}

/// What zlib packed; none where it is damaged or absurdly large.
std::optional<std::string> inflated(std::string_view packed) {
    constexpr size_t kMost = size_t{16} << 20, kPart = size_t{64} << 10;
    z_stream stream{};
    stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(packed.data()));
    stream.avail_in = unsigned(packed.size());
    if (inflateInit(&stream) != Z_OK) return std::nullopt;
    const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);
    std::string bytes, part(kPart, '\0');
    for (int result = Z_OK; result != Z_STREAM_END;) {
        stream.next_out = reinterpret_cast<uint8_t*>(part.data());
        stream.avail_out = kPart;
        result = inflate(&stream, Z_NO_FLUSH);
        bytes.append(part, 0, kPart - stream.avail_out);
        if ((result != Z_OK && result != Z_STREAM_END) || bytes.size() > kMost) return std::nullopt;
    }
    return bytes;
}

/// A chunk's text (sections 11.3.3.2 to 11.3.3.4).
struct PngText {
    std::string keyword = "";
    std::string_view bytes = {};
    bool packed = false;

    std::string plain() const { return packed ? inflated(bytes).value_or("") : std::string(bytes); }
};

/// Without a keyword where the chunk is no text.
PngText text_of(const Chunk& chunk) {
    const bool is_plain = chunk.type == "tEXt", is_packed = chunk.type == "zTXt", is_utf8 = chunk.type == "iTXt";
    const size_t end = chunk.data.find('\0');
    if ((!is_plain && !is_packed && !is_utf8) || end == std::string_view::npos) return {};
    PngText text{std::string(chunk.data.substr(0, end)), chunk.data.substr(end + 1), is_packed};
    const size_t flags = is_plain ? 0 : is_packed ? 1 : 2;
    if (text.bytes.size() < flags) return {};
    if (is_utf8) text.packed = text.bytes[0] != 0;
    text.bytes.remove_prefix(flags);
    for (int i = 0; is_utf8 && i < 2; ++i)
        text.bytes.remove_prefix(std::min(text.bytes.size(), text.bytes.find('\0') + 1));
    return text;
}

/// The bytes of a text as ImageMagick writes profiles: lines of a name and of a length, then hexadecimal digits.
std::string raw_profile(const std::string& text) {
    std::istringstream words(text);
    std::string name, length, digits, bytes;
    words >> name >> length;
    for (std::string line; words >> line;) digits += line;
    for (size_t i = 0; i + 1 < digits.size(); i += 2) {
        bytes += char(std::strtoul(digits.substr(i, 2).c_str(), nullptr, 16));
    }
    return bytes;
}

void take_text(PngHead& head, const Chunk& chunk) {
    const PngText text = text_of(chunk);
    if (text.keyword.empty()) return;
    if (!text.packed) head.texts.emplace_back(text.keyword, text.bytes);
    const bool is_exif = text.keyword == "Raw profile type exif" || text.keyword == "Raw profile type APP1";
    if (text.keyword == "XML:com.adobe.xmp" && head.xmp.empty()) head.xmp = text.plain();
    if (!is_exif || !head.exif.empty()) return;
    head.exif = raw_profile(text.plain());
    if (head.exif.starts_with("Exif")) head.exif.erase(0, kExifHeaderBytes);
}

/// Of gAMA's number. None where it makes no sense, and near sRGB's, for which libpng and all who write it take it then.
std::optional<double> exponent_of(uint32_t gamma) {
    const double exponent = 1e5 / double(gamma);
    const bool makes_sense = exponent > 0.1 && exponent < 10, is_srgbs = std::abs(exponent / 2.2 - 1) < 0.05;
    return makes_sense && !is_srgbs ? std::optional(exponent) : std::nullopt;
}

/// What chunks before the pixels say of colours (sections 11.3.2.1 to 11.3.2.6); an ICC profile stands before "sRGB",
/// which stands before the others.
ColourSpace colours_of(const std::vector<Chunk>& chunks) {
    ColourSpace told;
    bool is_srgb = false;
    for (const auto& [type, data] : chunks) {
        if (type == "iCCP") {  // a name, a zero, the method of compression
            const size_t profile = std::min(data.find('\0'), data.size() - 2) + 2;
            told.icc = data.size() < 2 ? "damaged" : inflated(data.substr(profile)).value_or("damaged");
        }
        is_srgb |= type == "sRGB";
        const bool is_srgbs_code = data.starts_with("\x01\x0d");  // of ITU-T H.273
        if (type == "cICP" && !is_srgbs_code) told.unread = "the chunk cICP";
        if (type == "gAMA" && data.size() == 4) told.gamma = exponent_of(number_at(data, 0));
        if (type != "cHRM" || data.size() != 32) continue;
        auto& all = told.chromaticities.emplace();
        for (size_t i = 0; i < all.size(); ++i) all[i] = number_at(data, 4 * i) / 1e5;
    }
    if (!told.icc.empty() || !told.unread.empty()) return {.icc = told.icc, .unread = told.unread};
    return is_srgb ? ColourSpace() : told;
}

}  // namespace

bool is_png(std::string_view bytes) { return bytes.starts_with(kSignature); }

void write_png(const std::filesystem::path& path, const torch::Tensor& image, const PngTexts& texts) {
    const auto rows = image.permute({1, 2, 0}).contiguous();
    const int height = int(rows.size(0)), width = int(rows.size(1)), channels = int(rows.size(2));
    std::string bytes;
    const auto append = [](void* out, void* data, int size) {
        static_cast<std::string*>(out)->append(static_cast<char*>(data), size_t(size));
    };
    const int written =
        stbi_write_png_to_func(append, &bytes, width, height, channels, rows.data_ptr(), width * channels);
    TORCH_INTERNAL_ASSERT(written != 0);
    write_file(path, [&](const Put& put) {
        put(std::string_view(bytes).substr(0, kHeaderEnd));
        for (const auto& [keyword, text] : texts) put(text_chunk(keyword, text));
        put(std::string_view(bytes).substr(kHeaderEnd));
    });
}

torch::Tensor decode_png(std::string_view bytes, const std::string& name) {
    chunks_of(bytes, name);
    int width = 0, height = 0, channels = 0;
    const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
    const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
        stbi_load_from_memory(data, int(bytes.size()), &width, &height, &channels, 0), stbi_image_free);
    if (!pixels) throw Error(fmt::format("{}: not a readable PNG file: {}", name, stbi_failure_reason()));
    return torch::from_blob(pixels.get(), {height, width, channels}, torch::kUInt8).permute({2, 0, 1}).clone();
}

torch::Tensor read_png(const std::filesystem::path& path) {
    return decode_png(read_file(path, kMaxPngBytes), display_path(path));
}

PngHead png_head(std::string_view bytes, const std::string& name) {
    const auto chunks = chunks_of(bytes, name);
    const int colour_type = chunks[0].data[9];  // 0: grey, 4: grey and alpha (section 11.2.2)
    PngHead head{number_at(chunks[0].data, 0), number_at(chunks[0].data, 4), {}, (colour_type & 3) == 0};
    const auto exif = std::ranges::find(chunks, "eXIf", &Chunk::type);
    if (exif != chunks.end()) head.exif = exif->data;
    for (const auto& chunk : chunks) take_text(head, chunk);
    head.colours = colours_of(chunks);
    return head;
}

PngHead read_png_head(const std::filesystem::path& path) {
    return png_head(read_file(path, kMaxPngBytes), display_path(path));
}

}  // namespace diffuse
