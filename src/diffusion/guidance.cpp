#include "diffuse/diffusion/guidance.hpp"

#include <cmath>

namespace diffuse {
namespace {

using torch::Tensor;

Tensor std_of_examples(const Tensor& x) { return x.flatten(1).std(1, /*unbiased=*/false); }

}  // namespace

Denoiser guided(Denoiser main, Denoiser reference, double scale, double rescale) {
    if (scale == 1) return main;
    if (scale == 0) return reference;
    return [=](const Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto [x0, eps] = main(x, level);
        const auto [x0_reference, eps_reference] = reference(x, level);
        const Prediction result{x0_reference + scale * (x0 - x0_reference),
                                eps_reference + scale * (eps - eps_reference)};
        if (rescale == 0) return result;
        const auto wanted = std_of_examples(x0), found = std_of_examples(result.x0);
        const auto factor = torch::where(found > 0, wanted / found, torch::ones_like(found));
        return with_x0(result.x0 * beside(rescale * factor + (1 - rescale), x), result.eps, x, level);
    };
}

Denoiser thresholded(Denoiser denoiser, double percentile) {
    return [=](const Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto [x0, eps] = denoiser(x, level);
        const auto bound = torch::quantile(x0.abs().flatten(1), percentile / 100, /*dim=*/1).clamp_min(1);
        const auto s = beside(bound, x);
        return with_x0(torch::minimum(torch::maximum(x0, -s), s) / s, eps, x, level);
    };
}

bool RatioInterval::holds(const NoiseLevel& from, const NoiseLevel& to) const {
    constexpr double kRounding = 1e-9;  // of a level that was put where the interval ends
    const double ratio = std::max(from.ratio(), to.ratio());
    return ratio > low * (1 + kRounding) && ratio <= high * (1 + kRounding);
}

}  // namespace diffuse
