#include "diffuse/diffusion/loss.hpp"

#include <cmath>
#include <numeric>

#include "diffuse/base/error.hpp"
#include "diffuse/diffusion/grid.hpp"

namespace diffuse {
namespace {

constexpr double kMinSnrGamma = 5;

/// The table's entry for each image, [N, 1, 1, 1].
torch::Tensor at_times(const torch::Tensor& table, const torch::Tensor& t) {
    return table.index_select(0, t).view({-1, 1, 1, 1});
}

double snr(const Schedule& schedule, int64_t t) { return std::exp(schedule.at(double(t)).log_snr()); }

/// Weights of the squared error of eps at level t >= 1.
struct Weighting {
    double (*at)(const Schedule& schedule, int64_t t);
    bool mean_one = true;  ///< scaled to a mean of 1 over 1 .. T
};
double simple(const Schedule&, int64_t) { return 1; }
double min_snr(const Schedule& schedule, int64_t t) { return std::min(1.0, kMinSnrGamma / snr(schedule, t)); }
double vlb(const Schedule& schedule, int64_t t) {
    const int64_t start = grid_start(schedule), from = std::min(std::max<int64_t>(t, 2), start);
    return from < 2 ? 1 : (snr(schedule, from - 1) / snr(schedule, from) - 1) / 2;
}
double of_v(const Schedule& schedule, int64_t t) { return std::pow(schedule.at(double(t)).alpha, -2); }

const Table<Weighting>& weightings() {
    static const Table<Weighting> table = {
        {"simple", {simple}}, {"min-snr", {min_snr}}, {"vlb", {vlb}}, {"v", {of_v, /*mean_one=*/false}}};
    return table;
}

/// The weights of the squared error of the output at each level, 0 at t = 0.
std::vector<double> output_weights(const Schedule& schedule, const Parameterization& parameterization,
                                   const Weighting& weighting) {
    std::vector<double> weights = {0};
    for (int64_t t = 1; t <= schedule.steps(); ++t) weights.push_back(weighting.at(schedule, t));
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    const double scale = weighting.mean_one ? double(schedule.steps()) / sum : 1;
    for (int64_t t = 1; t <= schedule.steps(); ++t) {
        weights[size_t(t)] *= scale * std::pow(parameterization.eps_error(schedule.at(double(t))), 2);
    }
    return weights;
}

torch::Tensor on(torch::Device device, const std::vector<double>& values) {
    return torch::tensor(values, torch::kFloat64).to(torch::kFloat32).to(device);
}

}  // namespace

LevelTable::LevelTable(const Schedule& schedule, torch::Device device, const Parameterization& parameterization,
                       const std::string& weighting) {
    std::vector<double> alphas, sigmas;
    for (int64_t t = 0; t <= schedule.steps(); ++t) {
        alphas.push_back(schedule.at(double(t)).alpha);
        sigmas.push_back(schedule.at(double(t)).sigma);
    }
    alpha = on(device, alphas);
    sigma = on(device, sigmas);
    const auto weights =
        on(device, output_weights(schedule, parameterization, look_up("weighting", weightings(), weighting)));
    if (!weights.narrow(0, 1, schedule.steps()).eq(1).all().item<bool>()) weight = weights;
}

std::vector<std::string> weighting_names() { return names(weightings()); }

torch::Tensor add_noise(const LevelTable& levels, const torch::Tensor& x0, const torch::Tensor& t,
                        const torch::Tensor& eps) {
    return at_times(levels.alpha, t) * x0 + at_times(levels.sigma, t) * eps;
}

torch::Tensor ddpm_loss(const Network& network, const Parameterization& parameterization, const LevelTable& levels,
                        const torch::Tensor& x0, const torch::Tensor& t, const torch::Tensor& eps) {
    const auto output = network(add_noise(levels, x0, t, eps), t);
    const auto target = parameterization.target(x0, eps, at_times(levels.alpha, t), at_times(levels.sigma, t));
    if (!levels.weight.defined()) return torch::mse_loss(output, target);
    return ((output - target).square() * at_times(levels.weight, t)).mean();
}

}  // namespace diffuse
