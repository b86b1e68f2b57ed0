#include "diffuse/diffusion/analytic.hpp"

#include <cmath>
#include <numbers>

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

}  // namespace

Denoiser mixture_denoiser(const Mixture& mixture) {
    return [mixture](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto [away, variance, log_density] = components_at(mixture, x, level);
        const auto share = log_density.softmax(1).unsqueeze(-1);
        const auto eps = level.sigma / variance.unsqueeze(-1) * away;
        const auto x0 = mixture.means + (level.alpha * mixture.stds.square() / variance).unsqueeze(-1) * away;
        return {(share * x0).sum(1), (share * eps).sum(1)};
    };
}

torch::Tensor mixture_log_density(const Mixture& mixture, const torch::Tensor& x, const NoiseLevel& level) {
    return components_at(mixture, x, level).log_density.logsumexp(1);
}

Denoiser gaussian_denoiser(double mean, double std) {
    return [=](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const double variance = std::pow(level.alpha * std, 2) + level.sigma * level.sigma;
        const auto away = x - level.alpha * mean;
        return {mean + level.alpha * std * std / variance * away, level.sigma / variance * away};
    };
}

}  // namespace diffuse
