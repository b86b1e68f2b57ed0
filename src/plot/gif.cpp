#include "diffuse/plot/gif.hpp"

#include <gif_lib.h>

#include "diffuse/base/file.hpp"

namespace diffuse {
namespace {

constexpr int kFrameCentiseconds = 10, kLastFrameCentiseconds = 200;

/// An image by the numbers of its colours, and those colours.
struct Palette {
    torch::Tensor numbers;  ///< uint8 [H, W]
    ColorMapObject* colours;
};

Palette grey_palette(const torch::Tensor& image) {
    ColorMapObject* colours = GifMakeMapObject(256, nullptr);
    for (int i = 0; i < 256; ++i) colours->Colors[i] = {GifByteType(i), GifByteType(i), GifByteType(i)};
    return {image[0].contiguous(), colours};
}

/// The 256 colours that fit this image best.
Palette rgb_palette(const torch::Tensor& image) {
    const auto planes = image.contiguous();
    const auto numbers = torch::empty({image.size(1), image.size(2)}, torch::kUInt8);
    int size = 256;
    ColorMapObject* colours = GifMakeMapObject(size, nullptr);
    const auto plane = [&](int64_t i) { return planes[i].data_ptr<uint8_t>(); };
    const int done = GifQuantizeBuffer(unsigned(image.size(2)), unsigned(image.size(1)), &size, plane(0), plane(1),
                                       plane(2), numbers.data_ptr<uint8_t>(), colours->Colors);
    TORCH_INTERNAL_ASSERT(done == GIF_OK);
    return {numbers, colours};
}

}  // namespace

void write_gif(const std::filesystem::path& path, const std::vector<torch::Tensor>& frames) {
    std::string bytes;
    const auto append = [](GifFileType* file, const GifByteType* data, int size) {
        static_cast<std::string*>(file->UserData)->append(reinterpret_cast<const char*>(data), size_t(size));
        return size;
    };
    int error = 0;
    GifFileType* gif = EGifOpen(&bytes, append, &error);
    TORCH_INTERNAL_ASSERT(gif);
    const int height = int(frames[0].size(1)), width = int(frames[0].size(2));
    EGifSetGifVersion(gif, true);
    EGifPutScreenDesc(gif, width, height, 8, 0, nullptr);
    EGifPutExtensionLeader(gif, APPLICATION_EXT_FUNC_CODE);
    EGifPutExtensionBlock(gif, 11, "NETSCAPE2.0");
    EGifPutExtensionBlock(gif, 3, "\x01\x00\x00");  // for ever
    EGifPutExtensionTrailer(gif);
    for (size_t i = 0; i < frames.size(); ++i) {
        GraphicsControlBlock control{};
        control.DelayTime = i + 1 < frames.size() ? kFrameCentiseconds : kLastFrameCentiseconds;
        control.TransparentColor = NO_TRANSPARENT_COLOR;
        GifByteType extension[4];
        EGifPutExtension(gif, GRAPHICS_EXT_FUNC_CODE, int(EGifGCBToExtension(&control, extension)), extension);
        const Palette palette = frames[i].size(0) == 3 ? rgb_palette(frames[i]) : grey_palette(frames[i]);
        EGifPutImageDesc(gif, 0, 0, width, height, false, palette.colours);
        auto pixels = palette.numbers.clone();
        for (int y = 0; y < height; ++y) EGifPutLine(gif, pixels.data_ptr<uint8_t>() + y * width, width);
        GifFreeMapObject(palette.colours);
    }
    EGifCloseFile(gif, &error);
    write_file(path, bytes);
}

}  // namespace diffuse
