#include "diffuse/data/jpeg.hpp"

#include <fmt/format.h>

#include <csetjmp>
#include <cstdio>  // before jpeglib.h, which takes it for granted
#include <cstdlib>
#include <memory>

#include <jpeglib.h>

#include <jerror.h>

#include "diffuse/base/error.hpp"

namespace diffuse {
namespace {

constexpr int kMaxSide = 16384;  // as PNG files
constexpr int kExifAndXmp = JPEG_APP0 + 1, kIccProfile = JPEG_APP0 + 2;
constexpr unsigned kWholeMarker = 0xffff;

/// libjpeg's state for one file. It leaves a function that failed by longjmp, so that what is called by `succeeded`
/// must own nothing.
struct JpegDecoder {
    JpegDecoder();
    ~JpegDecoder() { jpeg_destroy_decompress(&info); }
    JpegDecoder(const JpegDecoder&) = delete;
    JpegDecoder& operator=(const JpegDecoder&) = delete;

    jpeg_decompress_struct info{};
    jpeg_error_mgr errors{};
    jpeg_progress_mgr progress{};
    std::jmp_buf start;
    std::string fault, warning;  ///< why it failed; the first harmless warning
};

JpegDecoder& decoder_of(j_common_ptr info) { return *static_cast<JpegDecoder*>(info->client_data); }

std::string message_of(j_common_ptr info) {
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    return text;
}

[[noreturn]] void fail_jpeg(j_common_ptr info) {
    decoder_of(info).fault = message_of(info);
    std::longjmp(decoder_of(info).start, 1);
}

/// Most warnings are what the library has to say of a file that is cut short or damaged, whose rest it would fill with
/// grey. Those of bytes that belong to no pixel are kept.
void judge_warning(j_common_ptr info, int level) {
    if (level >= 0) return;  // no warning
    const int code = info->err->msg_code;
    const bool harmless =
        code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM || code == JWRN_JFIF_MAJOR || code == JWRN_BOGUS_ICC;
    if (!harmless) fail_jpeg(info);
    if (decoder_of(info).warning.empty()) decoder_of(info).warning = message_of(info);
}

/// A small file can ask for any number of passes over a large image.
void limit_scans(j_common_ptr info) {
    constexpr int kMostScans = 500;
    JpegDecoder& decoder = decoder_of(info);
    if (decoder.info.input_scan_number <= kMostScans) return;
    decoder.fault = fmt::format("it has more than {} scans", kMostScans);
    std::longjmp(decoder.start, 1);
}

JpegDecoder::JpegDecoder() {
    info.err = jpeg_std_error(&errors);
    info.client_data = this;
    errors.error_exit = fail_jpeg;
    errors.emit_message = judge_warning;
    progress.progress_monitor = limit_scans;
}

template <class Work>
bool succeeded(JpegDecoder& decoder, const Work& work) {
    if (setjmp(decoder.start) != 0) return false;
    work(decoder.info);
    return true;
}

[[noreturn]] void refuse(const std::string& name, const std::string& why) {
    throw Error(fmt::format("{}: not a readable JPEG file: {}", name, why));
}

/// Reads all before the pixels.
void read_jpeg_head(JpegDecoder& decoder, std::string_view bytes, const std::string& name) {
    const bool read = succeeded(decoder, [&](jpeg_decompress_struct& info) {
        jpeg_create_decompress(&info);
        info.progress = &decoder.progress;
        jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
        jpeg_save_markers(&info, kExifAndXmp, kWholeMarker);
        jpeg_save_markers(&info, kIccProfile, kWholeMarker);
        jpeg_read_header(&info, /*require_image=*/TRUE);
    });
    if (!read) refuse(name, decoder.fault);
    const auto& info = decoder.info;
    if (info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK) {
        throw Error(fmt::format("{}: is in CMYK, the colours of print; convert it to RGB first", name));
    }
    if (info.image_width > kMaxSide || info.image_height > kMaxSide) {
        throw Error(fmt::format("{}: {}x{} pixels are more than {} a side", name, info.image_width, info.image_height,
                                kMaxSide));
    }
}

/// What the first APP1 marker holds behind this header; empty where none has it.
std::string behind_header(const JpegDecoder& decoder, std::string_view header) {
    for (const auto* marker = decoder.info.marker_list; marker; marker = marker->next) {
        const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
        if (marker->marker == kExifAndXmp && data.starts_with(header)) return std::string(data.substr(header.size()));
    }
    return "";
}

/// Put together from its parts; where they do not fit together, what no profile is.
std::string icc_of(JpegDecoder& decoder) {
    JOCTET* data = nullptr;
    unsigned size = 0;
    const bool read = succeeded(decoder, [&](auto& info) { jpeg_read_icc_profile(&info, &data, &size); });
    const std::unique_ptr<JOCTET, void (*)(void*)> owner(data, std::free);
    if (data) return {reinterpret_cast<const char*>(data), size};
    return !read || decoder.errors.msg_code == JWRN_BOGUS_ICC ? "damaged" : "";
}

}  // namespace

bool is_jpeg(std::string_view bytes) { return bytes.starts_with("\xff\xd8\xff"); }

JpegHead jpeg_head(std::string_view bytes, const std::string& name) {
    using namespace std::string_view_literals;
    JpegDecoder decoder;
    read_jpeg_head(decoder, bytes, name);
    return {.width = decoder.info.image_width,
            .height = decoder.info.image_height,
            .grey = decoder.info.jpeg_color_space == JCS_GRAYSCALE,
            .exif = behind_header(decoder, "Exif\0\0"sv),
            .xmp = behind_header(decoder, "http://ns.adobe.com/xap/1.0/\0"sv),
            .colours = {.icc = icc_of(decoder)}};
}

JpegPixels decode_jpeg(std::string_view bytes, const std::string& name) {
    JpegDecoder decoder;
    read_jpeg_head(decoder, bytes, name);
    const bool grey = decoder.info.jpeg_color_space == JCS_GRAYSCALE;
    const int64_t height = decoder.info.image_height, width = decoder.info.image_width, channels = grey ? 1 : 3;
    const auto pixels = torch::empty({height, width, channels}, torch::kUInt8);
    uint8_t* const first = pixels.data_ptr<uint8_t>();
    const bool read = succeeded(decoder, [&](jpeg_decompress_struct& info) {
        info.out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
        jpeg_start_decompress(&info);
        while (info.output_scanline < info.output_height) {
            JSAMPROW row = first + info.output_scanline * width * channels;
            jpeg_read_scanlines(&info, &row, 1);
        }
        jpeg_finish_decompress(&info);
    });
    if (!read) refuse(name, decoder.fault);
    return {pixels.permute({2, 0, 1}), decoder.warning};
}

}  // namespace diffuse
