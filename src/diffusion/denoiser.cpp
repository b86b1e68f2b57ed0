#include "diffuse/diffusion/denoiser.hpp"

#include <cmath>

#include "diffuse/base/error.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

const Table<Parameterization>& predictions() {
    static const Table<Parameterization> table = {
        {"eps",
         {.target = [](const Tensor&, const Tensor& eps, const Tensor&, const Tensor&) { return eps; },
          .predict = [](const Tensor& eps, const Tensor& x, const NoiseLevel& level) -> Prediction {
              return {(x - level.sigma * eps) / level.alpha, eps};
          },
          .eps_error = [](const NoiseLevel&) { return 1.0; }}},
        {"x0",
         {.target = [](const Tensor& x0, const Tensor&, const Tensor&, const Tensor&) { return x0; },
          .predict = [](const Tensor& x0, const Tensor& x, const NoiseLevel& level) -> Prediction {
              return {x0, (x - level.alpha * x0) / level.sigma};
          },
          .eps_error = [](const NoiseLevel& level) { return level.alpha / level.sigma; }}},
        {"v",
         {.target = [](const Tensor& x0, const Tensor& eps, const Tensor& alpha,
                       const Tensor& sigma) { return alpha * eps - sigma * x0; },
          .predict = [](const Tensor& v, const Tensor& x, const NoiseLevel& level) -> Prediction {
              return {level.alpha * x - level.sigma * v, level.sigma * x + level.alpha * v};
          },
          .eps_error = [](const NoiseLevel& level) { return level.alpha; }}},
    };
    return table;
}

}  // namespace

Parameterization parameterization(const std::string& prediction) {
    return look_up("prediction", predictions(), prediction);
}

std::vector<std::string> prediction_names() { return names(predictions()); }

Network counted(Network network, std::atomic<int64_t>& evaluations) {
    return [network, &evaluations](const Tensor& x, const Tensor& t) {
        evaluations += x.size(0);
        return network(x, t);
    };
}

Denoiser network_denoiser(Network network, const Parameterization& parameterization, const Schedule& schedule) {
    return [=](const Tensor& x, const NoiseLevel& level) -> Prediction {
        const c10::AutoGradMode gradients(x.requires_grad());
        const bool untrained = level.ratio() < schedule.at(1).ratio();
        NoiseLevel asked = untrained ? schedule.at(1) : level;
        if (std::isnan(asked.t)) asked.t = schedule.time_at(asked.log_snr());
        const auto time = torch::full({1}, asked.t, x.options().dtype(torch::kFloat32));
        const auto output = network(x.to(torch::kFloat32), time).to(x.scalar_type());
        auto [x0, eps] = parameterization.predict(output, x, asked);
        if (untrained) x0 = (x - level.sigma * eps) / level.alpha;
        return {x0, eps};
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
