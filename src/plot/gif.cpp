#include "diffuse/plot/gif.hpp"

#include <gif_lib.h>

#include "diffuse/base/file.hpp"

namespace diffuse {
namespace {

constexpr int kFrameCentiseconds = 10, kLastFrameCentiseconds = 200;

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
    ColorMapObject* colors = GifMakeMapObject(256, nullptr);
    for (int i = 0; i < 256; ++i) colors->Colors[i] = {GifByteType(i), GifByteType(i), GifByteType(i)};
    EGifSetGifVersion(gif, true);
    EGifPutScreenDesc(gif, width, height, 8, 0, colors);
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
        EGifPutImageDesc(gif, 0, 0, width, height, false, nullptr);
        auto pixels = frames[i][0].contiguous().clone();
        for (int y = 0; y < height; ++y) EGifPutLine(gif, pixels.data_ptr<uint8_t>() + y * width, width);
    }
    GifFreeMapObject(colors);
    EGifCloseFile(gif, &error);
    write_file(path, bytes);
}

}  // namespace diffuse
