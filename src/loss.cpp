#include "diffuse/loss.hpp"

#include <cmath>

#include "diffuse/error.hpp"

namespace diffuse {
namespace {

constexpr double kMinSnrGamma = 5;

/// The table's entry for each image, [N, 1, 1, 1].
torch::Tensor at_times(const torch::Tensor& table, const torch::Tensor& t) {
    return table.index_select(0, t).view({-1, 1, 1, 1});
}

double snr(const Schedule& schedule, int64_t t) { return std::exp(schedule.at(double(t)).log_snr()); }

/// Of the squared error of eps at level t >= 1.
using Weighting = double (*)(const Schedule& schedule, int64_t t);
double simple(const Schedule&, int64_t) { return 1; }
double min_snr(const Schedule& schedule, int64_t t) { return std::min(1.0, kMinSnrGamma / snr(schedule, t)); }
double vlb(const Schedule& schedule, int64_t t) {
    const int64_t from = std::min(std::max<int64_t>(t, 2), schedule.steps());
    return from < 2 ? 1 : (snr(schedule, from - 1) / snr(schedule, from) - 1) / 2;
}

const Table<Weighting>& weightings() {
    static const Table<Weighting> table = {{"simple", simple}, {"min-snr", min_snr}, {"vlb", vlb}};
    return table;
}

}  // namespace

LevelTable::LevelTable(const Schedule& schedule, torch::Device device, const std::string& weighting) {
    const Weighting weight_at = look_up("weighting", weightings(), weighting);
    std::vector<float> alphas, sigmas, weights;
    for (int64_t t = 0; t <= schedule.steps(); ++t) {
        const NoiseLevel level = schedule.at(double(t));
        alphas.push_back(float(level.alpha));
        sigmas.push_back(float(level.sigma));
        weights.push_back(t == 0 ? 0 : float(weight_at(schedule, t)));
    }
    alpha = torch::tensor(alphas).to(device);
    sigma = torch::tensor(sigmas).to(device);
    if (weighting == "simple") return;
    weight = torch::tensor(weights).to(device);
    weight *= double(schedule.steps()) / weight.sum();
}

std::vector<std::string> weighting_names() { return names(weightings()); }

torch::Tensor add_noise(const LevelTable& levels, const torch::Tensor& x0, const torch::Tensor& t,
                        const torch::Tensor& eps) {
    return at_times(levels.alpha, t) * x0 + at_times(levels.sigma, t) * eps;
}

torch::Tensor eps_loss(const Network& network, ToEps to_eps, const LevelTable& levels, const torch::Tensor& x0,
                       const torch::Tensor& t, const torch::Tensor& eps) {
    const auto x = add_noise(levels, x0, t, eps);
    const auto predicted = to_eps(network(x, t), x, at_times(levels.alpha, t), at_times(levels.sigma, t));
    if (!levels.weight.defined()) return torch::mse_loss(predicted, eps);
    return ((predicted - eps).square() * at_times(levels.weight, t)).mean();
}

}  // namespace diffuse
