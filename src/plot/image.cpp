#include "diffuse/plot/image.hpp"

#include <fmt/format.h>
#include <gif_lib.h>
#include <zlib.h>

#include <memory>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/data/dataset.hpp"

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

constexpr uintmax_t kLargestPng = uintmax_t{64} << 20;
constexpr int64_t kGap = 2;
constexpr uint64_t kDeflateLimit = 1032;
constexpr uint8_t kGapGrey = 128;

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

torch::Tensor tile(const torch::Tensor& images, int64_t columns) {
    const int64_t count = images.size(0), channels = images.size(1), height = images.size(2), width = images.size(3);
    columns = std::min(columns, count);
    const int64_t rows = (count + columns - 1) / columns;
    auto sheet = torch::full({channels, rows * (height + kGap) + kGap, columns * (width + kGap) + kGap}, kGapGrey,
                             torch::kUInt8);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t top = kGap + i / columns * (height + kGap), left = kGap + i % columns * (width + kGap);
        sheet.narrow(1, top, height).narrow(2, left, width).copy_(images[i]);
    }
    return sheet;
}

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
    const std::string bytes = read_file(path, kLargestPng);
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

namespace {

constexpr int64_t kMostColumns = 12;
constexpr int kFrameCentiseconds = 10, kLastFrameCentiseconds = 200;

torch::Tensor grey_sheet(const torch::Tensor& images, int64_t columns) {
    return tile(to_bytes(images.to(torch::kFloat32)), columns);
}

/// One row an image: x_t, then x0.
torch::Tensor frame_sheet(const Frame& frame) {
    return grey_sheet(torch::stack({frame.x.to(torch::kFloat32), frame.x0.to(torch::kFloat32)}, 1).flatten(0, 1), 2);
}

/// Bytes of a looping GIF of grey pictures, one a frame (giflib; GIF89a, CompuServe 1990).
std::string gif_of(const std::vector<torch::Tensor>& sheets) {
    std::string bytes;
    const auto append = [](GifFileType* file, const GifByteType* data, int size) {
        static_cast<std::string*>(file->UserData)->append(reinterpret_cast<const char*>(data), size_t(size));
        return size;
    };
    int error = 0;
    GifFileType* gif = EGifOpen(&bytes, append, &error);
    TORCH_INTERNAL_ASSERT(gif);
    const int height = int(sheets[0].size(1)), width = int(sheets[0].size(2));
    ColorMapObject* colors = GifMakeMapObject(256, nullptr);
    for (int i = 0; i < 256; ++i) colors->Colors[i] = {GifByteType(i), GifByteType(i), GifByteType(i)};
    EGifSetGifVersion(gif, true);
    EGifPutScreenDesc(gif, width, height, 8, 0, colors);
    EGifPutExtensionLeader(gif, APPLICATION_EXT_FUNC_CODE);
    EGifPutExtensionBlock(gif, 11, "NETSCAPE2.0");
    EGifPutExtensionBlock(gif, 3, "\x01\x00\x00");  // for ever
    EGifPutExtensionTrailer(gif);
    for (size_t i = 0; i < sheets.size(); ++i) {
        GraphicsControlBlock control{};
        control.DelayTime = i + 1 < sheets.size() ? kFrameCentiseconds : kLastFrameCentiseconds;
        control.TransparentColor = NO_TRANSPARENT_COLOR;
        GifByteType extension[4];
        EGifPutExtension(gif, GRAPHICS_EXT_FUNC_CODE, int(EGifGCBToExtension(&control, extension)), extension);
        EGifPutImageDesc(gif, 0, 0, width, height, false, nullptr);
        auto pixels = sheets[i][0].contiguous().clone();
        for (int y = 0; y < height; ++y) EGifPutLine(gif, pixels.data_ptr<uint8_t>() + y * width, width);
    }
    GifFreeMapObject(colors);
    EGifCloseFile(gif, &error);
    return bytes;
}

}  // namespace

void write_trajectory(const std::filesystem::path& path, const std::vector<Frame>& frames) {
    if (path.extension() == ".gif") {
        std::vector<torch::Tensor> sheets;
        for (const auto& frame : frames) sheets.push_back(frame_sheet(frame));
        return write_file(path, gif_of(sheets));
    }
    const int64_t count = std::ssize(frames), columns = std::min(count, kMostColumns), images = frames[0].x.size(0);
    std::vector<torch::Tensor> cells;
    for (int64_t image = 0; image < images; ++image) {
        for (const bool clean : {false, true}) {
            for (int64_t column = 0; column < columns; ++column) {
                const Frame& frame = frames[size_t(columns > 1 ? column * (count - 1) / (columns - 1) : 0)];
                cells.push_back((clean ? frame.x0 : frame.x)[image].to(torch::kFloat32));
            }
        }
    }
    write_png(path, grey_sheet(torch::stack(cells), columns));
}

torch::Tensor to_grey(const torch::Tensor& image, const std::filesystem::path& path) {
    if (image.size(0) == 1) return image;
    const auto first = image.narrow(0, 0, 1);
    if (image.size(0) != 3)
        throw Error(fmt::format("{}: has transparency; expected a greyscale picture", display_path(path)));
    if (!image.eq(first).all().item<bool>()) {
        throw Error(fmt::format("{}: is in colour; expected a greyscale picture", display_path(path)));
    }
    return first;
}

}  // namespace diffuse
