#include "diffuse/loss.hpp"

namespace diffuse {
namespace {

/// The table's entry for each image, [N, 1, 1, 1].
torch::Tensor at_times(const torch::Tensor& table, const torch::Tensor& t) {
    return table.index_select(0, t).view({-1, 1, 1, 1});
}

}  // namespace

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

torch::Tensor add_noise(const LevelTable& levels, const torch::Tensor& x0, const torch::Tensor& t,
                        const torch::Tensor& eps) {
    return at_times(levels.alpha, t) * x0 + at_times(levels.sigma, t) * eps;
}

torch::Tensor eps_loss(const Network& network, ToEps to_eps, const LevelTable& levels, const torch::Tensor& x0,
                       const torch::Tensor& t, const torch::Tensor& eps) {
    const auto x = add_noise(levels, x0, t, eps);
    return torch::mse_loss(to_eps(network(x, t), x, at_times(levels.alpha, t), at_times(levels.sigma, t)), eps);
}

}  // namespace diffuse
