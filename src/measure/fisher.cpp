#include "diffuse/measure/fisher.hpp"

#include <cmath>

#include "diffuse/base/parallel.hpp"
#include "diffuse/base/random.hpp"

namespace diffuse {

FisherDivergence fisher_divergence(const Denoiser& learned, const Denoiser& exact, const torch::Tensor& data,
                                   double sigma, uint64_t seed) {
    constexpr int64_t kGroup = 4096;
    const SingleThreaded guard;  // so that the digits do not depend on the number of threads
    const NoiseLevel level = level_of_ratio(sigma, /*alpha=*/1);
    const auto noise = normal_images(seed, Purpose::kBoundNoise, 0, data.size(0), data.sizes().slice(1), /*draw=*/0);
    const auto noisy = data.to(torch::kFloat64) + sigma * noise.to(torch::kFloat64);
    std::vector<torch::Tensor> errors, squares;
    for (const auto& x : noisy.split(kGroup)) {
        const auto best = exact(x, level).eps, said = learned(x, level).eps;  // s = -eps / sigma
        errors.push_back((said - best).square().flatten(1).sum(1) / (sigma * sigma));
        squares.push_back(best.square().flatten(1).sum(1) / (sigma * sigma));
    }
    const auto each = torch::cat(errors), square = torch::cat(squares);
    const double count = double(data.size(0)), exact_square = square.mean().item<double>();
    return {sigma, each.mean().item<double>(), each.std().item<double>() / std::sqrt(count), exact_square,
            1 - sigma * sigma * exact_square / double(data[0].numel())};
}

}  // namespace diffuse
