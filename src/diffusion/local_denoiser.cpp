#include <algorithm>
#include <cmath>

#include "diffuse/diffusion/analytic.hpp"

namespace diffuse {
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

/// x: [..., H, W]
torch::Tensor part_of(const torch::Tensor& x, const Along& rows, const Along& columns) {
    return x.narrow(-2, rows.first, rows.count).narrow(-1, columns.first, columns.count);
}

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
        const auto part = [&](const torch::Tensor& all) { return part_of(all, rows, columns); };
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
                means.add(part_of(away, rows, columns) / (-2 * level.sigma * level.sigma),
                          part_of(moved, rows, columns), rows, columns);
            }
        }
    }
    return means.sum / means.weight;
}

}  // namespace

Denoiser local_denoiser(const torch::Tensor& images, int64_t reach,
                        const std::function<int64_t(const NoiseLevel& level)>& side) {
    return [=](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        if (level.sigma == 0) return {x / level.alpha, torch::zeros_like(x)};
        const auto noisy = x.to(torch::kFloat32);
        std::vector<torch::Tensor> means;
        for (int64_t i = 0; i < x.size(0); ++i) {
            means.push_back(local_mean(noisy[i], images, level, reach, side(level)));
        }
        return with_x0(torch::stack(means).to(x.scalar_type()), {}, x, level);
    };
}

}  // namespace diffuse
