#include "diffuse/diffusion/objective.hpp"

#include <cmath>
#include <numeric>

#include "diffuse/base/device.hpp"
#include "diffuse/base/table.hpp"
#include "diffuse/diffusion/grid.hpp"

namespace diffuse {
namespace {

constexpr double kMinSnrGamma = 5;

/// A number for each example, to be multiplied with float32 [N, ...].
torch::Tensor column(const std::vector<double>& values, const torch::Tensor& x) {
    std::vector<int64_t> shape(size_t(x.dim()), 1);
    shape[0] = std::ssize(values);
    return to_device(torch::tensor(values, torch::kFloat64).to(torch::kFloat32).view(shape), x.device());
}

torch::Tensor column(const Batch& batch, double NoiseLevel::*member) {
    std::vector<double> values;
    for (const auto& level : batch.levels) values.push_back(level.*member);
    return column(values, batch.x0);
}

/// The entries of a table over t = 0 .. T, linear between whole t.
std::vector<double> weights_of(const std::vector<NoiseLevel>& levels, const std::vector<double>& table) {
    std::vector<double> weights;
    for (const auto& level : levels) {
        const double below = std::floor(level.t), fraction = level.t - below;
        const double first = table.at(size_t(below));
        weights.push_back(fraction == 0 ? first : first + fraction * (table.at(size_t(below) + 1) - first));
    }
    return weights;
}

double snr(const Schedule& schedule, int64_t t) { return std::exp(schedule.at(double(t)).log_snr()); }

/// Weights of the squared error of eps at level t >= 1.
struct Weighting {
    double (*at)(const Schedule& schedule, int64_t t, double sigma_data);
    bool mean_one = true;  ///< scaled to a mean of 1 over 1 .. T
};
double simple(const Schedule&, int64_t, double) { return 1; }
double min_snr(const Schedule& schedule, int64_t t, double) { return std::min(1.0, kMinSnrGamma / snr(schedule, t)); }
double vlb(const Schedule& schedule, int64_t t, double) {
    const int64_t start = grid_start(schedule), from = std::min(std::max<int64_t>(t, 2), start);
    return from < 2 ? 1 : (snr(schedule, from - 1) / snr(schedule, from) - 1) / 2;
}
double of_v(const Schedule& schedule, int64_t t, double) {
    return std::pow(normalised(schedule.at(double(t))).alpha, -2);
}
double of_flow(const Schedule& schedule, int64_t t, double) { return std::pow(1 + schedule.at(double(t)).ratio(), 2); }
double of_edm(const Schedule& schedule, int64_t t, double sigma_data) {
    return 1 + std::pow(schedule.at(double(t)).ratio() / sigma_data, 2);
}

const Table<Weighting>& weightings() {
    static const Table<Weighting> table = {{"simple", {simple}},
                                           {"min-snr", {min_snr}},
                                           {"vlb", {vlb}},
                                           {"v", {of_v, /*mean_one=*/false}},
                                           {"flow", {of_flow, /*mean_one=*/false}},
                                           {"edm", {of_edm, /*mean_one=*/false}}};
    return table;
}

}  // namespace

std::vector<double> output_weights(const Parameterization& parameterization, const Schedule& schedule,
                                   const std::string& weighting) {
    const auto& [at, mean_one] = look_up("weighting", weightings(), weighting);
    std::vector<double> weights = {0};
    for (int64_t t = 1; t <= schedule.steps(); ++t) weights.push_back(at(schedule, t, parameterization.sigma_data));
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    const double scale = mean_one ? double(schedule.steps()) / sum : 1;
    for (int64_t t = 1; t <= schedule.steps(); ++t) {
        const double error = parameterization.eps_error(normalised(schedule.at(double(t))));
        weights[size_t(t)] *= scale * error * error;
        // Where alpha is 0, an infinite weight meets an error of 0; their product is as good as one level below.
        if (!std::isfinite(weights[size_t(t)])) weights[size_t(t)] = weights[size_t(t) - 1];
    }
    return weights;
}

std::vector<std::string> weighting_names() { return names(weightings()); }

Objective ddpm_loss(const Parameterization& parameterization, const Schedule& schedule, const std::string& weighting) {
    const auto weights = output_weights(parameterization, schedule, weighting);
    const bool weighted = std::any_of(weights.begin() + 1, weights.end(), [](double w) { return float(w) != 1; });
    return [=](const Network& network, const Batch& batch) {
        const auto& [x0, eps, levels, condition] = batch;
        const auto alpha = column(batch, &NoiseLevel::alpha), sigma = column(batch, &NoiseLevel::sigma);
        const auto x = alpha * x0 + sigma * eps;  // Ho et al. 2020, eq. 4
        const auto output = network_output(network, parameterization, schedule, x, levels, condition);
        const auto target = parameterization.target(x0, eps, alpha, sigma);
        const auto errors = (output - target).square().flatten(1).mean(1);
        return weighted ? errors * column(weights_of(levels, weights), errors) : errors;
    };
}

}  // namespace diffuse
