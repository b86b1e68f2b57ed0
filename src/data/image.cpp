#include "diffuse/data/image.hpp"

#include <fmt/format.h>
#include <libexif/exif-data.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <vector>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/data/colour.hpp"
#include "diffuse/data/jpeg.hpp"
#include "diffuse/data/png.hpp"

namespace diffuse {
namespace {

constexpr int kFirstTurned = 5;  ///< orientations from here on exchange rows and columns

/// What Exif data tell: an orientation 1 .. 8, and whether the colours are those of Adobe RGB, which cameras say by the
/// index of interoperability "R03" (DCF 2.0) where they store no profile.
struct Exif {
    std::optional<int> orientation = {};
    bool is_adobe_rgb = false;
};

/// Of a number in whichever of Exif's whole numbers it was stored.
std::optional<int64_t> whole_number(const ExifEntry& entry, ExifByteOrder order) {
    if (entry.components < 1 || !entry.data) return std::nullopt;
    switch (entry.format) {
        case EXIF_FORMAT_BYTE:
            return entry.data[0];
        case EXIF_FORMAT_SHORT:
            return exif_get_short(entry.data, order);
        case EXIF_FORMAT_SSHORT:
            return exif_get_sshort(entry.data, order);
        case EXIF_FORMAT_LONG:
            return exif_get_long(entry.data, order);
        case EXIF_FORMAT_SLONG:
            return exif_get_slong(entry.data, order);
        default:
            return std::nullopt;
    }
}

/// Of Exif data without their header.
Exif read_exif(const std::string& bytes) {
    Exif result;
    if (bytes.empty()) return result;
    const std::string whole = std::string("Exif\0\0", 6) + bytes;
    const std::unique_ptr<ExifData, void (*)(ExifData*)> data(exif_data_new(), exif_data_unref);
    if (!data) return result;
    exif_data_unset_option(data.get(), EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);
    exif_data_load_data(data.get(), reinterpret_cast<const unsigned char*>(whole.data()), unsigned(whole.size()));
    const ExifEntry* entry = exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
    const auto value = entry ? whole_number(*entry, exif_data_get_byte_order(data.get())) : std::nullopt;
    if (value && *value >= 1 && *value <= 8) result.orientation = int(*value);
    const ExifEntry* index =
        exif_content_get_entry(data->ifd[EXIF_IFD_INTEROPERABILITY], EXIF_TAG_INTEROPERABILITY_INDEX);
    result.is_adobe_rgb =
        index && std::string_view(reinterpret_cast<const char*>(index->data), index->size).starts_with("R03");
    return result;
}

/// The orientation 1 .. 8 that an XMP text tells, as an attribute or an element (XMP specification, part 2, section
/// 3.2).
std::optional<int> xmp_orientation(const std::string& xmp) {
    constexpr std::string_view kTag = "tiff:Orientation";
    for (size_t at = xmp.find(kTag); at != std::string::npos; at = xmp.find(kTag, at + 1)) {
        const size_t digit = xmp.find_first_not_of(" \t\r\n=\"'>", at + kTag.size());
        if (digit != std::string::npos && xmp[digit] >= '1' && xmp[digit] <= '8') return xmp[digit] - '0';
    }
    return std::nullopt;
}

/// What a file of either format says before its pixels; sides as they are stored.
struct FileHead {
    ImageHead image;
    int orientation;
    ColourSpace colours;
};

template <class Head>
FileHead file_head(const std::string& format, const Head& head) {
    const Exif exif = read_exif(head.exif);
    return {{format, head.height, head.width, head.grey},
            exif.orientation ? *exif.orientation : xmp_orientation(head.xmp).value_or(1),
            exif.is_adobe_rgb && !head.colours.is_told() ? adobe_rgb() : head.colours};
}

/// A format of images that is not read here, and how its files begin.
struct ForeignFormat {
    std::string name;
    size_t at;
    std::string_view bytes;
};

/// Its name; empty where the bytes are of none.
std::string foreign_format(std::string_view bytes) {
    using namespace std::string_view_literals;
    static const ForeignFormat formats[] = {
        {"GIF", 0, "GIF8"},         {"WebP", 8, "WEBP"},          {"TIFF", 0, "II*\0"sv},  {"TIFF", 0, "MM\0*"sv},
        {"HEIC", 4, "ftyphei"},     {"HEIC", 4, "ftypmif1"},      {"HEIC", 4, "ftypmsf1"}, {"AVIF", 4, "ftypavi"},
        {"JPEG XL", 4, "JXL \r\n"}, {"JPEG 2000", 4, "jP  \r\n"}, {"Photoshop", 0, "8BPS"}};
    for (const auto& [name, at, beginning] : formats) {
        if (bytes.size() > at && bytes.substr(at).starts_with(beginning)) return name;
    }
    const bool is_bmp = bytes.starts_with("BM") && bytes.size() > 10 && bytes.substr(6, 4) == "\0\0\0\0"sv;
    return is_bmp ? "BMP" : "";
}

FileHead file_head(std::string_view bytes, const std::string& name) {
    if (is_png(bytes)) return file_head("PNG", png_head(bytes, name));
    if (is_jpeg(bytes)) return file_head("JPEG", jpeg_head(bytes, name));
    const std::string format = foreign_format(bytes);
    throw Error(fmt::format("{}: neither a PNG nor a JPEG file{}", name,
                            format.empty() ? "" : fmt::format(", but {}; convert it to PNG", format)));
}

/// Which old pixels a new one covers along one side, and how much of each: the first, and weights that add up to 1.
struct Span {
    int64_t first;
    std::vector<double> weights;
};

std::vector<Span> spans(int64_t before, int64_t after) {
    const double size = double(before) / double(after);
    std::vector<Span> result;
    for (int64_t i = 0; i < after; ++i) {
        const double begin = double(i) * size, end = double(i + 1) * size;
        Span span{std::min(before - 1, int64_t(begin)), {}};
        for (int64_t j = span.first; j < before && (j == span.first || double(j) < end); ++j) {
            span.weights.push_back(std::max(0.0, std::min(end, double(j + 1)) - std::max(begin, double(j))) / size);
        }
        result.push_back(std::move(span));
    }
    return result;
}

/// A plane of bytes [height, width] into one of [rows, columns].
void average(const torch::TensorAccessor<uint8_t, 2>& plane, const std::vector<Span>& rows,
             const std::vector<Span>& columns, uint8_t* out) {
    std::vector<double> sums(columns.size());
    for (const auto& row : rows) {
        std::fill(sums.begin(), sums.end(), 0.5);  // to round
        for (size_t i = 0; i < row.weights.size(); ++i) {
            const auto pixels = plane[row.first + int64_t(i)];
            for (size_t column = 0; column < columns.size(); ++column) {
                double sum = 0;
                const Span& span = columns[column];
                for (size_t j = 0; j < span.weights.size(); ++j) {
                    sum += span.weights[j] * double(pixels[span.first + int64_t(j)]);
                }
                sums[column] += row.weights[i] * sum;
            }
        }
        for (const double sum : sums) *out++ = uint8_t(std::clamp(sum, 0.0, 255.0));
    }
}

torch::Tensor over_background(const torch::Tensor& colours, const torch::Tensor& alpha, const ImageRule& rule) {
    auto background = torch::empty({3, 1, 1}, torch::kFloat32);
    for (int64_t i = 0; i < 3; ++i) background[i][0][0] = double((*rule.background)[size_t(i)]);
    const auto share = alpha.to(torch::kFloat32) / 255;
    return (colours * share + background * (1 - share)).round().to(torch::kUInt8);
}

}  // namespace

bool is_image(std::string_view beginning, const std::filesystem::path& path) {
    static const std::set<std::string> endings = {".png",  ".jpg", ".jpeg", ".jpe",  ".jfif", ".gif", ".webp", ".tif",
                                                  ".tiff", ".bmp", ".heic", ".heif", ".avif", ".jxl", ".jp2",  ".psd"};
    const bool begins_as_one = is_png(beginning) || is_jpeg(beginning) || !foreign_format(beginning).empty();
    return begins_as_one || endings.contains(file_ending(path));
}

ImageHead image_head(std::string_view bytes, const std::string& name) {
    FileHead head = file_head(bytes, name);
    if (head.orientation >= kFirstTurned) std::swap(head.image.height, head.image.width);
    return head.image;
}

DecodedImage decode_image(std::string_view bytes, const std::string& name) {
    const FileHead head = file_head(bytes, name);
    const JpegPixels read = is_png(bytes) ? JpegPixels{decode_png(bytes, name)} : decode_jpeg(bytes, name);
    const InSrgb shown = to_srgb(read.pixels, head.colours);
    const bool both = !read.warning.empty() && !shown.problem.empty();
    return {upright(shown.image, head.orientation), shown.changed, read.warning + (both ? "; " : "") + shown.problem};
}

torch::Tensor upright(const torch::Tensor& image, int orientation) {
    constexpr int64_t kRows = 1, kColumns = 2;
    const auto turned = orientation >= kFirstTurned ? image.transpose(kRows, kColumns) : image;
    switch (orientation) {
        case 2:
        case 6:
            return turned.flip(kColumns);
        case 4:
        case 8:
            return turned.flip(kRows);
        case 3:
        case 7:
            return turned.flip({kRows, kColumns});
        default:
            return turned;
    }
}

bool has_colours(const torch::Tensor& image) {
    return image.size(0) == 3 && image.ne(image.narrow(0, 0, 1)).any().item<bool>();
}

torch::Tensor with_channels(const torch::Tensor& image, const ImageRule& rule, const std::string& name) {
    const int64_t count = image.size(0);
    auto colours = image.narrow(0, 0, count >= 3 ? 3 : 1);
    const bool has_alpha = count == 2 || count == 4;
    if (has_alpha && image[count - 1].ne(255).any().item<bool>()) {
        if (!rule.background) {
            throw Error(
                fmt::format("{}: has transparent pixels; flatten it first (convert IN.png -background black "
                            "-flatten OUT.png), or train with a dataset.background: black, white or #rrggbb",
                            name));
        }
        colours = over_background(colours, image.narrow(0, count - 1, 1), rule);
    }
    if (rule.channels == 3) return colours.expand({3, -1, -1});
    if (colours.size(0) == 1 || !has_colours(colours)) return colours.narrow(0, 0, 1);
    const auto weights = torch::tensor({0.299, 0.587, 0.114}, torch::kFloat32).view({3, 1, 1});
    return (colours * weights).sum(0, /*keepdim=*/true).round().to(torch::kUInt8);
}

torch::Tensor fitted(const torch::Tensor& image, int64_t height, int64_t width) {
    const int64_t before_height = image.size(1), before_width = image.size(2);
    if (before_height == height && before_width == width) return image;
    const double scale = std::min(double(before_height) / double(height), double(before_width) / double(width));
    const int64_t rows = std::clamp<int64_t>(std::llround(scale * double(height)), 1, before_height);
    const int64_t columns = std::clamp<int64_t>(std::llround(scale * double(width)), 1, before_width);
    const auto part =
        image.narrow(1, (before_height - rows) / 2, rows).narrow(2, (before_width - columns) / 2, columns).contiguous();
    auto result = torch::empty({image.size(0), height, width}, torch::kUInt8);
    const auto down = spans(rows, height), across = spans(columns, width);
    for (int64_t channel = 0; channel < image.size(0); ++channel) {
        const auto plane = part[channel];
        average(plane.accessor<uint8_t, 2>(), down, across, result[channel].data_ptr<uint8_t>());
    }
    return result;
}

std::optional<std::array<uint8_t, 3>> parse_colour(const std::string& text) {
    if (text.empty()) return std::nullopt;
    if (text == "black") return std::array<uint8_t, 3>{0, 0, 0};
    if (text == "white") return std::array<uint8_t, 3>{255, 255, 255};
    const bool hexadecimal =
        text.size() == 7 && text[0] == '#' && text.find_first_not_of("0123456789abcdefABCDEF", 1) == std::string::npos;
    if (!hexadecimal) {
        throw Error(fmt::format("config: dataset.background is \"{}\"; expected black, white or #rrggbb", text));
    }
    const unsigned long value = std::stoul(text.substr(1), nullptr, 16);
    return std::array<uint8_t, 3>{uint8_t(value >> 16), uint8_t(value >> 8), uint8_t(value)};
}

}  // namespace diffuse
