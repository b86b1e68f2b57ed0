#include "diffuse/data/colour.hpp"

#include <lcms2.h>

#include <memory>

#include "data/image_files.hpp"
#include "diffuse/data/image.hpp"

namespace diffuse {
namespace {

std::string bytes_of_profile(void* handle) {
    const std::unique_ptr<void, cmsBool (*)(cmsHPROFILE)> profile(handle, cmsCloseProfile);
    cmsUInt32Number size = 0;
    cmsSaveProfileToMem(profile.get(), nullptr, &size);
    std::string bytes(size, '\0');
    cmsSaveProfileToMem(profile.get(), bytes.data(), &size);
    return bytes;
}

/// sRGB, but for its red and green, which are exchanged.
std::string exchanged_profile() {
    const cmsCIExyY white = {0.3127, 0.3290, 1};
    const cmsCIExyYTRIPLE primaries = {{0.30, 0.60, 1}, {0.64, 0.33, 1}, {0.15, 0.06, 1}};
    const double parameters[] = {2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045};
    cmsToneCurve* const curve = cmsBuildParametricToneCurve(nullptr, 4, parameters);
    cmsToneCurve* const curves[] = {curve, curve, curve};
    const std::string bytes = bytes_of_profile(cmsCreateRGBProfile(&white, &primaries, curves));
    cmsFreeToneCurve(curve);
    return bytes;
}

std::string linear_grey_profile() {
    const std::unique_ptr<cmsToneCurve, void (*)(cmsToneCurve*)> curve(cmsBuildGamma(nullptr, 1), cmsFreeToneCurve);
    return bytes_of_profile(cmsCreateGrayProfile(cmsD50_xyY(), curve.get()));
}

std::string png_with_profile(const torch::Tensor& image, const std::string& profile) {
    return with_chunk(png_of(image), "iCCP", std::string("name\0\0", 6) + deflated(profile));
}

int64_t farthest(const torch::Tensor& a, const torch::Tensor& b) {
    return (a.to(torch::kInt64) - b.to(torch::kInt64)).abs().max().item<int64_t>();
}

TEST(Colour, OfAProfileIsConvertedToSrgb) {
    const auto stored = gradient(16, 24);
    const auto seen = stored.index_select(0, torch::tensor({1, 0, 2}));
    const auto png = decode_image(png_with_profile(stored, exchanged_profile()), "a");
    EXPECT_TRUE(png.converted);
    EXPECT_LE(farthest(png.pixels, seen), 1);  // the profile's numbers have 16 bits
    // a JPEG file has it in parts, here behind one another in the wrong order
    const std::string profile = exchanged_profile(), header("ICC_PROFILE\0", 12), first = profile.substr(0, 100);
    const auto with_second = with_segment(jpeg_of(stored), '\xe2', header + "\x02\x02" + profile.substr(100));
    const auto jpeg = decode_image(with_segment(with_second, '\xe2', header + "\x01\x02" + first), "a");
    EXPECT_TRUE(jpeg.converted);
    EXPECT_LE(farthest(jpeg.pixels, seen), 5);  // 4 of JPEG's, and 1
    const auto half = decode_image(with_second, "a");
    EXPECT_EQ(half.remark, "its ICC profile is damaged, or of other channels");
    EXPECT_LE(farthest(half.pixels, stored), 4);
}

TEST(Colour, OfSrgbStaysAsItIsAndGreyStaysGrey) {
    const auto stored = gradient(16, 24);
    const auto same = decode_image(png_with_profile(stored, bytes_of_profile(cmsCreate_sRGBProfile())), "a");
    EXPECT_TRUE(torch::equal(same.pixels, stored));
    EXPECT_FALSE(same.converted);
    const auto grey = stored.narrow(0, 0, 1), in_rgb = grey.expand({3, -1, -1});
    for (const auto& image : {grey, in_rgb}) {
        const auto shown = decode_image(png_with_profile(image, exchanged_profile()), "a").pixels;
        EXPECT_LE(farthest(shown, image), 1);
        EXPECT_FALSE(has_colours(shown));
    }
    const std::string linear = with_chunk(png_of(in_rgb), "gAMA", big_endian_bytes(100'000));
    EXPECT_FALSE(has_colours(decode_image(linear, "a").pixels));
}

TEST(Colour, ThatAPngFileTellsByNumbersIsConverted) {
    const auto middle = torch::full({1, 2, 2}, 55, torch::kUInt8);
    const std::string png = png_of(middle);
    const auto with_gamma = [&](uint32_t gamma) { return with_chunk(png, "gAMA", big_endian_bytes(gamma)); };
    // sRGB's curve at 55 / 255 of the light: 1.055 * 0.2157^(1 / 2.4) - 0.055 = 0.502
    EXPECT_EQ(decode_image(with_gamma(100'000), "a").pixels[0][0][0].item<uint8_t>(), 128);
    EXPECT_TRUE(torch::equal(decode_image(with_gamma(45'455), "a").pixels, middle));
    EXPECT_TRUE(torch::equal(decode_image(with_gamma(0), "a").pixels, middle));
    const std::string as_srgb = with_chunk(with_gamma(100'000), "sRGB", std::string(1, '\0'));
    EXPECT_TRUE(torch::equal(decode_image(as_srgb, "a").pixels, middle));
    expect_contains(decode_image(with_chunk(png, "cICP", "\x09\x10\x00\x01"), "a").remark, "cICP");

    std::string exchanged;  // white, and the primaries of sRGB, of which red and green are exchanged
    for (const uint32_t n : {31270, 32900, 30000, 60000, 64000, 33000, 15000, 6000}) exchanged += big_endian_bytes(n);
    const auto stored = gradient(16, 24), seen = stored.index_select(0, torch::tensor({1, 0, 2}));
    EXPECT_LE(farthest(decode_image(with_chunk(png_of(stored), "cHRM", exchanged), "a").pixels, seen), 1);
    const auto impossible = decode_image(with_chunk(png_of(stored), "cHRM", std::string(32, '\0')), "a");
    EXPECT_EQ(impossible.remark, "what it says of its colours is damaged, or of other channels");
    EXPECT_TRUE(torch::equal(impossible.pixels, stored));
}

TEST(Colour, OfProfilesThatAreDamagedOrOfOtherChannelsIsTakenAsItIsWithAWord) {
    const auto stored = gradient(16, 24);
    const auto with = [&](const std::string& profile) { return decode_image(png_with_profile(stored, profile), "a"); };
    EXPECT_EQ(with("no profile").remark, "its ICC profile is damaged, or of other channels");
    for (const std::string chunk : {"", "a", "nothing packed"}) {
        EXPECT_EQ(decode_image(with_chunk(png_of(stored), "iCCP", chunk), "a").remark,
                  "its ICC profile is damaged, or of other channels");
    }
    const auto grey = with(linear_grey_profile());
    EXPECT_EQ(grey.remark, "its ICC profile is damaged, or of other channels");
    EXPECT_TRUE(torch::equal(grey.pixels, stored));
    const auto one = stored.narrow(0, 0, 1);
    const auto fits = png_with_profile(one, linear_grey_profile());
    EXPECT_GT(farthest(decode_image(fits, "a").pixels, one), 60);  // light of 0.2 is shown as 0.5
}

TEST(Colour, OfAProfileWithAnyByteChangedIsConvertedOrLeft) {
    const auto stored = gradient(3, 4);
    const std::string whole = exchanged_profile();
    for (size_t i = 0; i < whole.size(); ++i) {
        for (const char change : {'\x01', '\x80', '\xff'}) {
            std::string damaged = whole;
            damaged[i] = char(damaged[i] ^ change);
            EXPECT_EQ(to_srgb(stored, {.icc = damaged}).image.sizes(), stored.sizes());
        }
        EXPECT_EQ(to_srgb(stored, {.icc = whole.substr(0, i)}).image.sizes(), stored.sizes());
    }
}

TEST(Colour, OfAdobesSpaceIsFoundByTheTagOfCameras) {
    using namespace std::string_literals;
    // IFD 0 points to the Exif IFD (tag 0x8769), that one to the IFD of interoperability (0xa005), whose index is
    // "R03".
    const auto entry = [](const std::string& tag, const std::string& type, char count, const std::string& value) {
        return "\0\x01"s + tag + "\0"s + type + "\0\0\0"s + count + value + "\0\0\0\0"s;
    };
    const std::string exif = "MM\0*\0\0\0\x08"s + entry("\x87\x69", "\x04", 1, "\0\0\0\x1a"s) +
                             entry("\xa0\x05", "\x04", 1, "\0\0\0\x2c"s) + entry("\0\x01"s, "\x02", 4, "R03\0"s);
    const auto stored = gradient(16, 24);
    const auto shown = decode_image(with_chunk(png_of(stored), "eXIf", exif), "a");
    EXPECT_TRUE(shown.converted);
    EXPECT_GT(farthest(shown.pixels, stored), 10);
    const auto told = to_srgb(stored, adobe_rgb());
    EXPECT_TRUE(torch::equal(shown.pixels, told.image));
}

}  // namespace
}  // namespace diffuse
