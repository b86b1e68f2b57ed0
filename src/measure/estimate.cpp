#include "diffuse/measure/estimate.hpp"

#include <algorithm>
#include <cmath>

#include "diffuse/base/progress.hpp"

namespace diffuse {

using torch::Tensor;

Estimate mean_estimate(const Tensor& each) {
    const double count = double(each.numel());
    return {each.mean().item<double>(), count > 1 ? each.std().item<double>() / std::sqrt(count) : std::nan("")};
}

Estimate share_estimate(double share, int64_t count) {
    const double p = (share * double(count) + 1) / double(count + 2);
    return {share, std::sqrt(p * (1 - p) / double(count))};
}

Estimate median_estimate(const Tensor& each) {
    const double away = std::min(0.5, 0.5 / std::sqrt(double(each.numel())));
    const auto numbers = each.to(torch::kFloat64);
    const auto at = [&](double share) { return torch::quantile(numbers, share).item<double>(); };
    return {each.median().item<double>(), (at(0.5 + away) - at(0.5 - away)) / 2};
}

double jackknife_error(int64_t count, const std::function<double(const Tensor& left)>& value) {
    if (count < 3) return std::nan("");
    const int64_t groups = std::min<int64_t>(20, count);
    const auto all = torch::arange(count);
    auto values = torch::empty({groups}, torch::kFloat64);
    Progress progress("standard error: group", groups);
    for (int64_t g = 0; g < groups; ++g) {
        const int64_t begin = g * count / groups, end = (g + 1) * count / groups;
        values[g] = value(torch::cat({all.narrow(0, 0, begin), all.narrow(0, end, count - end)}));
        progress.update(g + 1);
    }
    const double squares = (values - values.mean()).square().sum().item<double>();
    return std::sqrt(double(groups - 1) / double(groups) * squares);
}

}  // namespace diffuse
