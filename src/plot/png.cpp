#include "diffuse/plot/png.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <memory>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 4096
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

/// What stb takes no notice of: that chunks lie within the file and end with it, that their checksums are right, and
/// that the size which the header claims can be in so few bytes. Returns what is wrong, or nothing.
/// PNG specification (W3C), sections 5.2, 5.3 and 11.2.2.
std::string problem_of_png(std::string_view bytes) {
    const auto number = [&](size_t at) {
        uint32_t value = 0;
        for (size_t i = at; i < at + 4; ++i) value = value << 8 | uint8_t(bytes[i]);
        return value;
    };
    const std::string_view signature("\x89PNG\r\n\x1a\n", 8);
    if (!bytes.starts_with(signature)) return "it does not begin as one";
    uint64_t pixels = 0, compressed = 0;
    for (size_t at = signature.size();;) {
        if (bytes.size() - at < 12 || number(at) > bytes.size() - at - 12) return "it is cut short";
        const size_t length = number(at);
        const auto type = bytes.substr(at + 4, 4), body = bytes.substr(at + 4, 4 + length);
        const auto checksum = crc32_z(0, reinterpret_cast<const uint8_t*>(body.data()), body.size());
        if (checksum != number(at + 8 + length)) return fmt::format("a chunk at byte {} is damaged", at);
        if ((type == "IHDR") != (at == signature.size()) || (type == "IHDR" && length != 13)) {
            return "its header is not where it belongs";
        }
        if (type == "IHDR") pixels = uint64_t{number(at + 8)} * number(at + 12);
        if (type == "IDAT") compressed += length;
        at += 12 + length;
        if (type != "IEND") continue;
        // A pixel takes at least a bit, and deflate packs at most 1032 bytes into one.
        if (pixels / 8 > kDeflateLimit * compressed) return "its size cannot be in so few bytes";
        return at == bytes.size() ? "" : "bytes follow its end";
    }
}

}  // namespace

void write_png(const std::filesystem::path& path, const torch::Tensor& image) {
    const auto rows = image.permute({1, 2, 0}).contiguous();
    const int height = int(rows.size(0)), width = int(rows.size(1)), channels = int(rows.size(2));
    std::string bytes;
    const auto append = [](void* out, void* data, int size) {
        static_cast<std::string*>(out)->append(static_cast<char*>(data), size_t(size));
    };
    const int written =
        stbi_write_png_to_func(append, &bytes, width, height, channels, rows.data_ptr(), width * channels);
    TORCH_INTERNAL_ASSERT(written != 0);
    write_file(path, bytes);
}

torch::Tensor read_png(const std::filesystem::path& path) {
    const std::string bytes = read_file(path, kMaxPngBytes);
    if (const auto problem = problem_of_png(bytes); !problem.empty()) {
        throw Error(fmt::format("{}: not a readable PNG file: {}", display_path(path), problem));
    }
    int width = 0, height = 0, channels = 0;
    const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
    const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
        stbi_load_from_memory(data, int(bytes.size()), &width, &height, &channels, 0), stbi_image_free);
    if (!pixels) {
        throw Error(fmt::format("{}: not a readable PNG file: {}", display_path(path), stbi_failure_reason()));
    }
    return torch::from_blob(pixels.get(), {height, width, channels}, torch::kUInt8).permute({2, 0, 1}).clone();
}

torch::Tensor without_alpha(const torch::Tensor& image, const std::filesystem::path& path) {
    const int64_t colours = (image.size(0) - 1) / 2 * 2 + 1;  // 1 of 1 or 2 channels, 3 of 3 or 4
    if (image.size(0) > colours && image.narrow(0, colours, 1).ne(255).any().item<bool>()) {
        throw Error(
            fmt::format("{}: has transparent pixels; flatten it first, e.g. convert IN.png -background black "
                        "-flatten OUT.png",
                        display_path(path)));
    }
    return image.narrow(0, 0, colours);
}

torch::Tensor to_grey(const torch::Tensor& image, const std::filesystem::path& path) {
    const auto colours = without_alpha(image, path), first = colours.narrow(0, 0, 1);
    if (!colours.eq(first).all().item<bool>()) {
        throw Error(fmt::format("{}: is in colour; expected a greyscale picture", display_path(path)));
    }
    return first;
}

}  // namespace diffuse
