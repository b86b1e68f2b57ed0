#include "diffuse/plot/points.hpp"

#include <algorithm>
#include <cmath>

namespace diffuse {
namespace {

constexpr int64_t kMaxPanels = 4, kMaxDots = 20'000, kBins = 100;

/// All but the farthest thousandth on either side, and a little more.
struct Range {
    double low, high;
};
Range range_of(const torch::Tensor& x) {
    auto sorted = std::get<0>(x.contiguous().sort());
    const int64_t skip = x.size(0) / 1000;
    const double low = sorted[skip].item<double>(), high = sorted[x.size(0) - 1 - skip].item<double>();
    const double margin = std::max(0.05 * (high - low), 1e-6);
    return {low - margin, high + margin};
}

/// The bin of each number, and those outside apart.
torch::Tensor bins_of(const torch::Tensor& x, const Range& range) {
    return ((x - range.low) / (range.high - range.low) * double(kBins)).floor().to(torch::kInt64);
}

double middle(const Range& range, int64_t bin) {
    return range.low + (range.high - range.low) * (double(bin) + 0.5) / double(kBins);
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

Panel histogram(const torch::Tensor& x, const std::string& name) {
    const Range range = range_of(x);
    const auto bins = bins_of(x, range);
    const auto counts = torch::bincount(bins.masked_select((bins >= 0).logical_and(bins < kBins)), {}, kBins);
    const double width = (range.high - range.low) / double(kBins);
    Curve curve{"", {}, numbers(counts.to(torch::kFloat64) / (double(x.size(0)) * width)), Mark::kLine};
    for (int64_t bin = 0; bin < kBins; ++bin) curve.x.push_back(middle(range, bin));
    return {name, "density", {curve}};
}

}  // namespace

std::vector<Panel> point_panels(const torch::Tensor& values, const std::vector<std::string>& names, PointStyle style) {
    if (values.size(1) == 1) return {histogram(values.select(1, 0), names[0])};
    std::vector<Panel> panels;
    for (int64_t i = 0; i + 1 < values.size(1) && i < kMaxPanels; ++i) {
        const auto x = values.select(1, i), y = values.select(1, i + 1);
        const Curve curve = style == PointStyle::kScatter ? dots(x, y) : density(x, y);
        panels.push_back({names[size_t(i)], names[size_t(i) + 1], {curve}, "", false, false, values.size(1) == 2});
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
    const auto arrows = field(at);
    const auto length = arrows.square().sum(1, /*keepdim=*/true).sqrt().clamp_min(1e-30);
    const auto scaled = arrows / length * (length / length.max()).sqrt() * ((across.high - across.low) / 12);
    Panel panel{names[0], names[1], {dots(x, y)}, title, false, false, /*equal_axes=*/true};
    panel.curves.push_back({"", numbers(at.select(1, 0)), numbers(at.select(1, 1)), Mark::kArrows,
                            numbers(scaled.select(1, 0)), numbers(scaled.select(1, 1))});
    return panel;
}

}  // namespace diffuse
