#include "diffuse/data/jpeg.hpp"

#include <fmt/format.h>
#include <turbojpeg.h>

#include <memory>

#include "diffuse/base/error.hpp"

namespace diffuse {
namespace {

constexpr int kMaxSide = 16384;  // as PNG files

using Decoder = std::unique_ptr<void, int (*)(tjhandle)>;

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
    throw Error(fmt::format("{}: not a readable JPEG file: {}", name, why));
}

const unsigned char* data_of(std::string_view bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

JpegHead head_by(const Decoder& decoder, std::string_view bytes, const std::string& name) {
    int width = 0, height = 0, subsampling = 0, colours = 0;
    if (tjDecompressHeader3(decoder.get(), data_of(bytes), bytes.size(), &width, &height, &subsampling, &colours) !=
        0) {
        refuse(name, tjGetErrorStr2(decoder.get()));
    }
    if (colours == TJCS_CMYK || colours == TJCS_YCCK) {
        throw Error(fmt::format("{}: is in CMYK, the colours of print; convert it to RGB first", name));
    }
    if (width > kMaxSide || height > kMaxSide) {
        throw Error(fmt::format("{}: {}x{} pixels are more than {} a side", name, width, height, kMaxSide));
    }
    return {width, height, colours == TJCS_GRAY};
}

}  // namespace

bool is_jpeg(std::string_view bytes) { return bytes.starts_with("\xff\xd8\xff"); }

JpegHead jpeg_head(std::string_view bytes, const std::string& name) {
    return head_by(Decoder(tjInitDecompress(), tjDestroy), bytes, name);
}

torch::Tensor decode_jpeg(std::string_view bytes, const std::string& name) {
    const Decoder decoder(tjInitDecompress(), tjDestroy);
    const JpegHead head = head_by(decoder, bytes, name);
    const auto pixels = torch::empty({head.height, head.width, head.grey ? 1 : 3}, torch::kUInt8);
    // A warning is what the library has to say of a file that is cut short, whose rest it would fill with grey.
    const int failed = tjDecompress2(decoder.get(), data_of(bytes), bytes.size(), pixels.data_ptr<uint8_t>(),
                                     int(head.width), 0, int(head.height), head.grey ? TJPF_GRAY : TJPF_RGB,
                                     TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT);
    if (failed != 0) refuse(name, tjGetErrorStr2(decoder.get()));
    return pixels.permute({2, 0, 1});
}

}  // namespace diffuse
