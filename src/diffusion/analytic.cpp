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

namespace {

/// With the eps that goes with x0. Of data itself, x0 is x.
Prediction with_eps(const torch::Tensor& x0, const torch::Tensor& x, const NoiseLevel& level) {
    return {x0, (x - level.alpha * x0) / level.sigma};
}

Prediction of_data(const torch::Tensor& x, const NoiseLevel& level) { return {x / level.alpha, torch::zeros_like(x)}; }

}  // namespace

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
        if (level.sigma == 0) return of_data(x, level);
        // Without |x|^2, which is the same for all.
        const auto products = x.flatten(1).to(type).mm(flat.t());
        const auto away = level.alpha * level.alpha * squares - 2 * level.alpha * products;
        const auto mean = (away / (-2 * level.sigma * level.sigma)).softmax(1).mm(flat);
        return with_eps(mean.view(x.sizes()).to(x.scalar_type()), x, level);
    };
    return in_parts(whole, rows_at_once(flat.size(0)));
}

namespace {

/// Sums over windows of `side` x `side` around each pixel, as much of them as lies in the image. x: [..., H, W]
torch::Tensor window_sums(const torch::Tensor& x, int64_t side) {
    auto sums = x;
    for (const int64_t axis : {-1, -2}) {
        const int64_t size = sums.size(axis);
        const auto index = torch::arange(size, torch::kInt64);
        const auto from = (index - side / 2).clamp(0, size), to = (index + side / 2 + 1).clamp(0, size);
        auto first = sums.sizes().vec();
        first[first.size() + size_t(axis)] = 1;
        const auto running = torch::cat({torch::zeros(first, sums.options()), sums.cumsum(axis)}, axis);
        sums = running.index_select(axis, to) - running.index_select(axis, from);
    }
    return sums;
}

/// The pixels of an image of `size` along one axis whose patches may be compared with those `shift` away: where the
/// border cuts a patch, with those at the same distance from it alone.
struct Along {
    int64_t first, count;
};
Along along_axis(int64_t size, int64_t shift, int64_t side) {
    if (shift == 0) return {0, size};
    const int64_t whole = size - 2 * (side / 2) - std::abs(shift);
    return {side / 2 + std::max<int64_t>(0, -shift), std::max<int64_t>(0, whole)};
}

/// Means of numbers weighted by exp(logit), added to bit by bit: [H, W] of the weights, [C, H, W] of the sums.
struct WeightedMeans {
    torch::Tensor largest, weight, sum;
    /// logits: [M, h, w]; values: [M, C, h, w]; rows and columns: the part of the image that they are of.
    void add(const torch::Tensor& logits, const torch::Tensor& values, const Along& rows, const Along& columns) {
        const auto part = [&](const torch::Tensor& all) {
            return all.narrow(-2, rows.first, rows.count).narrow(-1, columns.first, columns.count);
        };
        const auto before = part(largest).clone(), now = torch::maximum(before, logits.amax(0));
        const auto fade = (before - now).exp(), share = (logits - now).exp();
        part(largest).copy_(now);
        part(weight).mul_(fade).add_(share.sum(0));
        part(sum).mul_(fade).add_((share.unsqueeze(1) * values).sum(0));
    }
};

/// Of one image [C, H, W].
torch::Tensor local_mean(const torch::Tensor& x, const torch::Tensor& images, const NoiseLevel& level, int64_t reach,
                         int64_t side) {
    constexpr int64_t kImagesAtOnce = 64;
    const int64_t height = x.size(1), width = x.size(2);
    WeightedMeans means{torch::full({height, width}, -1e30, x.options()), torch::zeros({height, width}, x.options()),
                        torch::zeros_like(x)};
    for (const auto& some : images.split(kImagesAtOnce)) {
        for (int64_t dy = -reach; dy <= reach; ++dy) {
            for (int64_t dx = -reach; dx <= reach; ++dx) {
                const Along rows = along_axis(height, dy, side), columns = along_axis(width, dx, side);
                if (rows.count == 0 || columns.count == 0) continue;
                // Whole images, of which the patches inside are whole; what wraps around is in none of those.
                const auto moved = some.roll({-dy, -dx}, {2, 3});
                const auto away = window_sums((x - level.alpha * moved).square().sum(1), side);
                const auto inside = [&](const torch::Tensor& all) {
                    return all.narrow(-2, rows.first, rows.count).narrow(-1, columns.first, columns.count);
                };
                means.add(inside(away) / (-2 * level.sigma * level.sigma), inside(moved), rows, columns);
            }
        }
    }
    return means.sum / means.weight;
}

}  // namespace

Denoiser local_denoiser(const torch::Tensor& images, int64_t reach,
                        const std::function<int64_t(const NoiseLevel& level)>& side) {
    return [=](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        if (level.sigma == 0) return of_data(x, level);
        const auto noisy = x.to(torch::kFloat32);
        std::vector<torch::Tensor> means;
        for (int64_t i = 0; i < x.size(0); ++i) {
            means.push_back(local_mean(noisy[i], images, level, reach, side(level)));
        }
        return with_eps(torch::stack(means).to(x.scalar_type()), x, level);
    };
}

Denoiser gaussian_denoiser(double mean, double std) {
    return [=](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const double variance = std::pow(level.alpha * std, 2) + level.sigma * level.sigma;
        const auto away = x - level.alpha * mean;
        return {mean + level.alpha * std * std / variance * away, level.sigma / variance * away};
    };
}

}  // namespace diffuse
