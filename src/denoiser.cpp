#include "diffuse/denoiser.hpp"

#include <cmath>

#include "diffuse/error.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

const Table<ToEps>& predictions() {
    static const Table<ToEps> table = {
        {"eps", [](const Tensor& output, const Tensor&, const Tensor&, const Tensor&) { return output; }},
        {"x0", [](const Tensor& output, const Tensor& x, const Tensor& alpha,
                  const Tensor& sigma) { return (x - alpha * output) / sigma; }},
        {"v", [](const Tensor& output, const Tensor& x, const Tensor& alpha,
                 const Tensor& sigma) { return sigma * x + alpha * output; }},
    };
    return table;
}

}  // namespace

ToEps to_eps(const std::string& prediction) { return look_up("prediction", predictions(), prediction); }

std::vector<std::string> prediction_names() { return names(predictions()); }

Denoiser network_denoiser(Network network, ToEps to_eps, const Schedule& schedule) {
    return [=](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        NoiseLevel asked = level.ratio() < schedule.at(1).ratio() ? schedule.at(1) : level;
        if (std::isnan(asked.t)) asked.t = schedule.time_at(asked.log_snr());
        const auto scalar = [&](double value) { return torch::full({1}, value, x.options()); };
        const auto output = network(x.to(torch::kFloat32), scalar(asked.t).to(torch::kFloat32)).to(x.scalar_type());
        const auto eps = to_eps(output, x, scalar(asked.alpha), scalar(asked.sigma));
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
