#include "diffuse/data/png.hpp"

#include <fmt/format.h>

#include <memory>

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

/// The keyword and the text of a chunk; none for other chunks and for compressed ones (sections 11.3.3.2 and 11.3.3.4).
void append_text(PngTexts& texts, const Chunk& chunk) {
    const size_t end = chunk.data.find('\0');
    if ((chunk.type != "tEXt" && chunk.type != "iTXt") || end == std::string_view::npos) return;
    const std::string keyword(chunk.data.substr(0, end));
    std::string_view rest = chunk.data.substr(end + 1);
    if (chunk.type == "iTXt") {
        if (rest.size() < 2 || rest[0] != 0) return;
        rest.remove_prefix(2);
        for (int i = 0; i < 2; ++i) rest.remove_prefix(std::min(rest.size(), rest.find('\0') + 1));
    }
    texts.emplace_back(keyword, rest);
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
    PngHead head{number_at(chunks[0].data, 0), number_at(chunks[0].data, 4), {}, {}, (colour_type & 3) == 0};
    for (const auto& chunk : chunks) {
        append_text(head.texts, chunk);
        if (chunk.type == "eXIf") head.exif = chunk.data;
    }
    return head;
}

PngHead read_png_head(const std::filesystem::path& path) {
    return png_head(read_file(path, kMaxPngBytes), display_path(path));
}

}  // namespace diffuse
