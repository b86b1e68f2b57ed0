#include "diffuse/diffusion/denoiser.hpp"

#include <cmath>

#include "diffuse/base/device.hpp"

namespace diffuse {

using torch::Tensor;

Network counted(Network network, const Counter& evaluations) {
    return [network, evaluations](const NetworkInput& input) {
        evaluations.add(input.x.size(0));
        return network(input);
    };
}

Denoiser counted(Denoiser denoiser, const Counter& evaluations) {
    return [denoiser, evaluations](const Tensor& x, const NoiseLevel& level) {
        evaluations.add(x.size(0));
        return denoiser(x, level);
    };
}

Tensor network_output(const Network& network, const Parameterization& parameterization, const Schedule& schedule,
                      const Tensor& x, std::span<const NoiseLevel> levels, const Condition& condition) {
    const auto on_device = [&](const std::vector<double>& values) {
        return to_device(torch::tensor(values, torch::kFloat64).to(torch::kFloat32), x.device());
    };
    std::vector<double> times;
    for (const auto& level : levels) times.push_back(schedule.time_at(level.log_snr()));
    auto input = x;
    if (parameterization.sigma_data != 1) {
        std::vector<double> scales;
        for (const auto& level : levels) {
            scales.push_back(1 / std::hypot(level.sigma, level.alpha * parameterization.sigma_data));
        }
        input = x * beside(on_device(scales), x);
    }
    return network({input, on_device(times), condition});
}

Denoiser network_denoiser(Network network, const Parameterization& parameterization, const Schedule& schedule,
                          const Condition& condition) {
    return [=](const Tensor& x, const NoiseLevel& level) -> Prediction {
        const c10::AutoGradMode gradients(c10::GradMode::is_enabled() && x.requires_grad());
        const bool untrained = level.ratio() < schedule.at(1).ratio();
        const NoiseLevel asked = normalised(untrained ? schedule.at(1) : level);
        const double scale = scale_of(level);
        const auto input = scale == 1 ? x : x / scale;
        const auto output =
            network_output(network, parameterization, schedule, input.to(torch::kFloat32), {&asked, 1}, condition);
        auto [x0, eps] = parameterization.predict(output.to(x.scalar_type()), input, asked);
        if (untrained) x0 = (x - level.sigma * eps) / level.alpha;
        return {x0, eps};
    };
}

Denoiser clip_x0(Denoiser denoiser) {
    return [denoiser](const Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto [x0, eps] = denoiser(x, level);
        return with_x0(x0.clamp(-1, 1), eps, x, level);
    };
}

}  // namespace diffuse
