#include "diffuse/data/colour.hpp"

#include <lcms2.h>

#include <memory>

namespace diffuse {
namespace {

constexpr int64_t kSameColour = 3;  ///< of 255: what profiles of sRGB, which are many, differ by from one another

using Profile = std::unique_ptr<void, cmsBool (*)(cmsHPROFILE)>;
using Transform = std::unique_ptr<void, void (*)(cmsHTRANSFORM)>;
using Curve = std::unique_ptr<cmsToneCurve, void (*)(cmsToneCurve*)>;

constexpr std::array<double, 8> kSrgbChromaticities = {0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06};

/// IEC 61966-2-1.
Curve srgb_curve() {
    constexpr int kWithLinearPart = 4;
    const double parameters[] = {2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045};
    return {cmsBuildParametricToneCurve(nullptr, kWithLinearPart, parameters), cmsFreeToneCurve};
}

Curve curve_of(const std::optional<double>& gamma) {
    if (!gamma) return srgb_curve();
    return {cmsBuildGamma(nullptr, *gamma), cmsFreeToneCurve};
}

/// Null where it cannot be.
Profile profile_of(const ColourSpace& space) {
    if (!space.icc.empty()) {
        return {cmsOpenProfileFromMem(space.icc.data(), cmsUInt32Number(space.icc.size())), cmsCloseProfile};
    }
    const auto& c = space.chromaticities.value_or(kSrgbChromaticities);
    const cmsCIExyY white = {c[0], c[1], 1};
    const cmsCIExyYTRIPLE primaries = {{c[2], c[3], 1}, {c[4], c[5], 1}, {c[6], c[7], 1}};
    const Curve curve = curve_of(space.gamma);
    cmsToneCurve* const curves[] = {curve.get(), curve.get(), curve.get()};
    return {cmsCreateRGBProfile(&white, &primaries, curves), cmsCloseProfile};
}

/// From the numbers of a profile to those of sRGB, `channels` bytes a pixel; null where the profile cannot do it.
Transform transform_of(const Profile& profile, int64_t channels) {
    const Curve curve = srgb_curve();
    const Profile target(channels == 3 ? cmsCreate_sRGBProfile() : cmsCreateGrayProfile(cmsD50_xyY(), curve.get()),
                         cmsCloseProfile);
    const cmsUInt32Number format = channels == 3 ? TYPE_RGB_8 : TYPE_GRAY_8;
    return {cmsCreateTransform(profile.get(), format, target.get(), format, INTENT_RELATIVE_COLORIMETRIC, 0),
            cmsDeleteTransform};
}

/// pixels: [..., channels]
torch::Tensor transformed(const Transform& transform, const torch::Tensor& pixels) {
    const auto before = pixels.contiguous();
    const auto after = torch::empty_like(before);
    cmsDoTransform(transform.get(), before.data_ptr(), after.data_ptr(),
                   cmsUInt32Number(before.numel() / before.size(-1)));
    return after;
}

/// Whether a transform leaves colours from all over the space as they are, with many dark ones, where curves differ
/// most.
bool changes_nothing(const Transform& transform, int64_t channels) {
    const auto steps = torch::tensor({0, 5, 10, 30, 60, 120, 190, 255}, torch::kUInt8);
    const auto colours =
        channels == 1 ? steps.unsqueeze(1) : torch::cartesian_prod({steps, steps, steps}).view({-1, 3});
    const auto difference = transformed(transform, colours).to(torch::kInt64) - colours.to(torch::kInt64);
    return difference.abs().max().item<int64_t>() <= kSameColour;
}

/// The way from a space to sRGB.
struct Conversion {
    int64_t channels = 0;                                 ///< of its profile: 3, 1, or 0 for all others
    Transform transform = {nullptr, cmsDeleteTransform};  ///< null where its profile is damaged
    bool changes = false;
};

Conversion make_conversion(const ColourSpace& space) {
    const Profile profile = profile_of(space);
    if (!profile) return {};
    const auto signature = cmsGetColorSpace(profile.get());
    Conversion result{.channels = signature == cmsSigRgbData ? 3 : signature == cmsSigGrayData ? 1 : 0};
    result.transform = transform_of(profile, result.channels);
    result.changes = result.transform && !changes_nothing(result.transform, result.channels);
    return result;
}

/// Each thread keeps its latest, since making one takes milliseconds and the files of a folder have mostly the same.
const Conversion& conversion_from(const ColourSpace& space) {
    thread_local ColourSpace latest;
    thread_local Conversion conversion;
    if (space == latest) return conversion;
    conversion = make_conversion(space);
    latest = space;
    return conversion;
}

/// colours: [C, H, W], C 1 or 3, by a transform of `channels`. Of grey ones in three channels the second stands for
/// all, since those that come out may differ by rounding.
torch::Tensor converted(const Transform& transform, int64_t channels, const torch::Tensor& colours) {
    const bool is_grey = colours.size(0) == 1 || colours.eq(colours.narrow(0, 0, 1)).all().item<bool>();
    const auto pixels = colours.expand({channels, -1, -1}).permute({1, 2, 0});
    const auto result = transformed(transform, pixels).permute({2, 0, 1});
    return is_grey ? result.narrow(0, channels / 2, 1).expand({colours.size(0), -1, -1}) : result;
}

}  // namespace

ColourSpace adobe_rgb() {
    return {.gamma = 563 / 256.0, .chromaticities = {{0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06}}};
}

InSrgb to_srgb(const torch::Tensor& image, const ColourSpace& space) {
    if (!space.is_told()) return {image};
    if (!space.unread.empty()) return {image, false, "its colours are told by " + space.unread + ", which is not read"};
    const std::string what = space.icc.empty() ? "what it says of its colours" : "its ICC profile";
    const int64_t count = image.size(0), own = count >= 3 ? 3 : 1;
    const auto& [channels, transform, changes] = conversion_from(space);
    if (!transform || channels < own) return {image, false, what + " is damaged, or of other channels"};
    if (!changes) return {image};
    const auto colours = converted(transform, channels, image.narrow(0, 0, own));
    return {torch::cat({colours, image.narrow(0, own, count - own)}), true};
}

}  // namespace diffuse
