#include "diffuse/denoiser.hpp"

#include <algorithm>

namespace diffuse {

Denoiser eps_denoiser(Network network) {
    return [network](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto t = torch::full({1}, std::max(level.t, 1.0), x.options().dtype(torch::kFloat32));
        const auto eps = network(x.to(torch::kFloat32), t).to(x.scalar_type());
        return {(x - level.sigma * eps) / level.alpha, eps};
    };
}

Denoiser clip_x0(Denoiser denoiser) {
    return [denoiser](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        auto [x0, eps] = denoiser(x, level);
        x0 = x0.clamp(-1, 1);
        if (level.sigma > 0) eps = (x - level.alpha * x0) / level.sigma;
        return {x0, eps};
    };
}

}  // namespace diffuse
