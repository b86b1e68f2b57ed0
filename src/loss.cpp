#include "diffuse/loss.hpp"

namespace diffuse {

LevelTable::LevelTable(const Schedule& schedule, torch::Device device) {
    std::vector<float> alphas, sigmas;
    for (int64_t t = 0; t <= schedule.steps(); ++t) {
        const NoiseLevel level = schedule.at(double(t));
        alphas.push_back(float(level.alpha));
        sigmas.push_back(float(level.sigma));
    }
    alpha = torch::tensor(alphas).to(device);
    sigma = torch::tensor(sigmas).to(device);
}

torch::Tensor add_noise(const LevelTable& levels, const torch::Tensor& x0, const torch::Tensor& t, const torch::Tensor& eps) {
    const auto per_image = [&](const torch::Tensor& table) { return table.index_select(0, t).view({-1, 1, 1, 1}); };
    return per_image(levels.alpha) * x0 + per_image(levels.sigma) * eps;
}

torch::Tensor eps_loss(const Network& network, const LevelTable& levels, const torch::Tensor& x0, const torch::Tensor& t,
                       const torch::Tensor& eps) {
    return torch::mse_loss(network(add_noise(levels, x0, t, eps), t), eps);
}

}  // namespace diffuse
