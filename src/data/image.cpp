#include "diffuse/data/image.hpp"

#include <fmt/format.h>
#include <libexif/exif-data.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "diffuse/base/error.hpp"
#include "diffuse/data/jpeg.hpp"
#include "diffuse/data/png.hpp"

namespace diffuse {
namespace {

constexpr int kFirstTurned = 5;  ///< orientations from here on exchange rows and columns

const std::string kExifHeader("Exif\0\0", 6);

/// The Exif data of a JPEG file, with their header, in whichever place before its pixels; empty where it has none
/// (ITU-T T.81, annex B.1.1.4: segments of a marker and a length).
std::string_view jpeg_exif(std::string_view bytes) {
    constexpr uint8_t kApp1 = 0xe1, kStartOfScan = 0xda;
    for (size_t at = 2; at + 4 <= bytes.size() && uint8_t(bytes[at]) == 0xff;) {
        const uint8_t marker = uint8_t(bytes[at + 1]);
        const size_t length = size_t(uint8_t(bytes[at + 2])) << 8 | uint8_t(bytes[at + 3]);
        if (marker == kStartOfScan || length < 2) break;
        const auto body = bytes.substr(at + 4, length - 2);
        if (marker == kApp1 && body.starts_with(kExifHeader)) return body;
        at += 2 + length;
    }
    return {};
}

/// The orientation 1 .. 8 that Exif data with their header tell; 1 where they tell none.
int orientation_of(std::string_view bytes) {
    if (bytes.size() <= kExifHeader.size()) return 1;
    const std::unique_ptr<ExifData, void (*)(ExifData*)> data(exif_data_new(), exif_data_unref);
    if (!data) return 1;
    exif_data_unset_option(data.get(), EXIF_DATA_OPTION_FOLLOW_SPECIFICATION);
    exif_data_load_data(data.get(), reinterpret_cast<const unsigned char*>(bytes.data()), unsigned(bytes.size()));
    const ExifEntry* entry = exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
    if (!entry || entry->format != EXIF_FORMAT_SHORT || entry->components < 1) return 1;
    const int value = exif_get_short(entry->data, exif_data_get_byte_order(data.get()));
    return value >= 1 && value <= 8 ? value : 1;
}

int png_orientation(const PngHead& head) { return orientation_of(kExifHeader + head.exif); }

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

ImageHead image_head(std::string_view bytes, const std::string& name) {
    ImageHead head;
    int orientation = 1;
    if (is_png(bytes)) {
        const PngHead png = png_head(bytes, name);
        head = {"PNG", png.height, png.width, png.grey};
        orientation = png_orientation(png);
    } else if (is_jpeg(bytes)) {
        const JpegHead jpeg = jpeg_head(bytes, name);
        head = {"JPEG", jpeg.height, jpeg.width, jpeg.grey};
        orientation = orientation_of(jpeg_exif(bytes));
    } else {
        throw Error(fmt::format("{}: neither a PNG nor a JPEG file", name));
    }
    if (orientation >= kFirstTurned) std::swap(head.height, head.width);
    return head;
}

torch::Tensor decode_image(std::string_view bytes, const std::string& name) {
    if (is_png(bytes)) return upright(decode_png(bytes, name), png_orientation(png_head(bytes, name)));
    if (is_jpeg(bytes)) return upright(decode_jpeg(bytes, name), orientation_of(jpeg_exif(bytes)));
    throw Error(fmt::format("{}: neither a PNG nor a JPEG file", name));
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
