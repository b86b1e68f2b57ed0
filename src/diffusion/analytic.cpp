#include "diffuse/diffusion/analytic.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "diffuse/base/parallel.hpp"

namespace diffuse {
namespace {

/// x seen from each component: x - alpha m [N, K, D], variances [K] and log densities with the weights [N, K].
struct Components {
    torch::Tensor away, variance, log_density;
};

Components components_at(const Mixture& mixture, const torch::Tensor& x, const NoiseLevel& level) {
    const auto away = x.unsqueeze(1) - level.alpha * mixture.means;
    const auto variance = (level.alpha * mixture.stds).square() + level.sigma * level.sigma;
    const auto log_density = mixture.weights.log() - away.square().sum(-1) / (2 * variance) -
                             double(x.size(1)) / 2 * (2 * std::numbers::pi * variance).log();
    return {away, variance, log_density};
}

/// Examples that are worked on at once, so that no tensor has many more numbers than this.
int64_t rows_at_once(int64_t numbers_a_row) {
    constexpr int64_t kNumbers = 1 << 21;
    return std::max<int64_t>(1, kNumbers / numbers_a_row);
}

/// A denoiser that takes so many examples at once.
Denoiser in_parts(const Denoiser& denoiser, int64_t rows) {
    return [=](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        if (x.size(0) <= rows) return denoiser(x, level);
        std::vector<torch::Tensor> x0, eps;
        for (const auto& some : x.split(rows)) {
            const auto said = denoiser(some, level);
            x0.push_back(said.x0), eps.push_back(said.eps);
        }
        return {torch::cat(x0), torch::cat(eps)};
    };
}

}  // namespace

Denoiser on_cpu(Denoiser denoiser) {
    return [=](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto [x0, eps] = denoiser(x.cpu(), level);
        return {x0.to(x.device()), eps.to(x.device())};
    };
}

Denoiser mixture_denoiser(const Mixture& mixture) {
    const Denoiser whole = [mixture](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto [away, variance, log_density] = components_at(mixture, x, level);
        const auto share = log_density.softmax(1).unsqueeze(-1);
        const auto eps = level.sigma / variance.unsqueeze(-1) * away;
        const auto x0 = mixture.means + (level.alpha * mixture.stds.square() / variance).unsqueeze(-1) * away;
        return {(share * x0).sum(1), (share * eps).sum(1)};
    };
    return in_parts(whole, rows_at_once(mixture.means.numel()));
}

torch::Tensor mixture_log_density(const Mixture& mixture, const torch::Tensor& x, const NoiseLevel& level) {
    return components_at(mixture, x, level).log_density.logsumexp(1);
}

Denoiser fitted_gaussian_denoiser(const torch::Tensor& data) {
    const SingleThreaded guard;  // so that the digits do not depend on the number of threads
    const auto flat = data.flatten(1).to(torch::kFloat64);
    const auto mean = flat.mean(0), away = flat - mean;
    const auto [values, axes] = torch::linalg_eigh(away.t().mm(away) / double(flat.size(0)), "L");
    return [mean, axes = axes, variances = values.clamp_min(0)](const torch::Tensor& x, const NoiseLevel& level) {
        const auto along = (x.flatten(1).to(torch::kFloat64) - level.alpha * mean).mm(axes);
        const auto noisy = level.alpha * level.alpha * variances + level.sigma * level.sigma;
        const auto share = (level.alpha * variances / noisy).nan_to_num(0), rest = (level.sigma / noisy).nan_to_num(0);
        const auto back = [&](const torch::Tensor& parts) {
            return parts.mm(axes.t()).view(x.sizes()).to(x.scalar_type());
        };
        return Prediction{back(along * share) + mean.view(x.sizes().slice(1)).to(x.scalar_type()), back(along * rest)};
    };
}

Denoiser empirical_denoiser(const torch::Tensor& data) {
    constexpr int64_t kFew = 64;
    // Images are so far from one another that float32 tells which is nearest.
    const auto type = data[0].numel() <= kFew ? torch::kFloat64 : torch::kFloat32;
    const auto flat = data.flatten(1).to(type), squares = flat.square().sum(1);
    const Denoiser whole = [flat, squares, type](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        if (level.sigma == 0) return {x / level.alpha, torch::zeros_like(x)};
        // Without |x|^2, which is the same for all.
        const auto products = x.flatten(1).to(type).mm(flat.t());
        const auto away = level.alpha * level.alpha * squares - 2 * level.alpha * products;
        const auto mean = (away / (-2 * level.sigma * level.sigma)).softmax(1).mm(flat);
        return with_x0(mean.view(x.sizes()).to(x.scalar_type()), {}, x, level);
    };
    return in_parts(whole, rows_at_once(flat.size(0)));
}

Denoiser gaussian_denoiser(double mean, double std) {
    return [=](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const double variance = std::pow(level.alpha * std, 2) + level.sigma * level.sigma;
        const auto away = x - level.alpha * mean;
        return {mean + level.alpha * std * std / variance * away, level.sigma / variance * away};
    };
}

}  // namespace diffuse
