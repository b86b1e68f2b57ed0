#include "diffuse/plot/points.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace diffuse {
namespace {

constexpr int64_t kMaxPanels = 4, kMaxDots = 20'000, kBins = 100;

/// All but the farthest thousandth on either side, and a little more.
struct Range {
    double low, high;
    double width() const { return high - low; }
};
Range range_of(const torch::Tensor& x) {
    auto sorted = std::get<0>(x.contiguous().sort());
    const int64_t skip = x.size(0) / 1000;
    const double low = sorted[skip].item<double>(), high = sorted[x.size(0) - 1 - skip].item<double>();
    const double margin = high > low ? 0.05 * (high - low) : std::max(0.01 * std::abs(low), 1e-6);
    return {low - margin, high + margin};
}

/// The bin of each number, and those outside apart.
torch::Tensor bins_of(const torch::Tensor& x, const Range& range) {
    return ((x - range.low) / range.width() * double(kBins)).floor().to(torch::kInt64);
}

double middle(const Range& range, int64_t bin) {
    return range.low + range.width() * (double(bin) + 0.5) / double(kBins);
}

Curve dots(const torch::Tensor& x, const torch::Tensor& y) {
    const int64_t count = std::min(x.size(0), kMaxDots);
    return {"", numbers(x.narrow(0, 0, count)), numbers(y.narrow(0, 0, count)), Mark::kDots};
}

Curve density(const torch::Tensor& x, const torch::Tensor& y) {
    const Range across = range_of(x), up = range_of(y);
    const auto i = bins_of(x, across), j = bins_of(y, up);
    const auto inside = (i >= 0).logical_and(i < kBins).logical_and(j >= 0).logical_and(j < kBins);
    const auto counts = torch::bincount((j * kBins + i).masked_select(inside), {}, kBins * kBins);
    Curve map{"", {}, {}, Mark::kHeat, numbers(counts)};
    for (int64_t bin = 0; bin < kBins * kBins; ++bin) {
        map.x.push_back(middle(across, bin % kBins));
        map.y.push_back(middle(up, bin / kBins));
    }
    return map;
}

/// Of one value alone there is no density.
Panel histogram(const torch::Tensor& x, const std::string& name) {
    const double first = x[0].item<double>();
    if ((x == first).all().item<bool>()) return {name, "share", {{"", {first, first}, {0, 1}, Mark::kLine}}};
    const Range range = range_of(x);
    const auto bins = bins_of(x, range);
    const auto counts = torch::bincount(bins.masked_select((bins >= 0).logical_and(bins < kBins)), {}, kBins);
    const double width = range.width() / double(kBins);
    Curve curve{"", {}, numbers(counts.to(torch::kFloat64) / (double(x.size(0)) * width)), Mark::kLine};
    for (int64_t bin = 0; bin < kBins; ++bin) curve.x.push_back(middle(range, bin));
    return {name, "density", {curve}};
}

/// Whether both columns are lengths of one kind, as those of the toys in the plane, and so nearly of one range that a
/// panel of equal axes is no strip.
bool wants_equal_axes(const Curve& curve, const std::vector<std::string>& names) {
    const auto width = [](const std::vector<double>& numbers) {
        const auto [low, high] = std::ranges::minmax(numbers);
        return high - low;
    };
    const double x = width(curve.x), y = width(curve.y);
    return names == std::vector<std::string>{"x", "y"} && x < 3 * y && y < 3 * x;
}

}  // namespace

std::vector<Panel> point_panels(const torch::Tensor& values, const std::vector<std::string>& names, PointStyle style) {
    if (values.size(1) == 1) return {histogram(values.select(1, 0), names[0])};
    std::vector<Panel> panels;
    const int64_t columns = values.size(1);
    for (int64_t i = 0; i + 1 < columns && i < kMaxPanels; ++i) {
        const auto x = values.select(1, i), y = values.select(1, i + 1);
        const Curve curve = style == PointStyle::kScatter ? dots(x, y) : density(x, y);
        const std::string title =
            columns - 1 > kMaxPanels ? fmt::format("columns {} and {} of {}", i + 1, i + 2, columns) : "";
        panels.push_back(
            {names[size_t(i)], names[size_t(i) + 1], {curve}, title, false, false, wants_equal_axes(curve, names)});
    }
    return panels;
}

Panel field_panel(const torch::Tensor& values, const std::vector<std::string>& names,
                  const std::function<torch::Tensor(const torch::Tensor& at)>& field, const std::string& title) {
    constexpr int64_t kArrows = 21;
    const auto x = values.select(1, 0), y = values.select(1, 1);
    const Range across = range_of(x), up = range_of(y);
    const auto along = [](const Range& range) {
        return torch::linspace(range.low, range.high, kArrows, torch::kFloat64);
    };
    const auto at = torch::stack({along(across).repeat({kArrows}), along(up).repeat_interleave(kArrows)}, 1);
    const Curve points = dots(x, y);
    const bool equal = wants_equal_axes(points, names);
    const auto unit = torch::tensor({across.width(), equal ? across.width() : up.width()}, torch::kFloat64);
    const auto arrows = field(at) * unit;
    const auto length = arrows.square().sum(1, /*keepdim=*/true).sqrt().clamp_min(1e-30);
    const auto scaled = arrows / length * (length / length.max()).sqrt() / 12 * unit;
    Panel panel{names[0], names[1], {points}, title, false, false, equal};
    panel.curves.push_back({"", numbers(at.select(1, 0)), numbers(at.select(1, 1)), Mark::kArrows,
                            numbers(scaled.select(1, 0)), numbers(scaled.select(1, 1))});
    return panel;
}

}  // namespace diffuse
