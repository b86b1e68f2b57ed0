#include "diffuse/diffusion/objective.hpp"

#include <torch/csrc/autograd/autograd.h>

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
    return beside(to_device(torch::tensor(values, torch::kFloat64).to(torch::kFloat32), x.device()), x);
}

torch::Tensor column(const Batch& batch, double NoiseLevel::*member) {
    std::vector<double> values;
    for (const auto& level : batch.levels) values.push_back(level.*member);
    return column(values, batch.x0);
}

double snr(const NoiseLevel& level) { return std::exp(level.log_snr()); }

/// Weights of the squared error of eps at a trained time t, whole or between two.
struct Weighting {
    double (*at)(const Schedule& schedule, double t, double sigma_data);
    bool reaches_pure_noise = false;  ///< grows as 1 / alpha^2; all others are scaled to a mean of 1 over 1 .. T
};
/// DDPM's (Ho et al. 2020).
double simple(const Schedule&, double, double) { return 1; }
/// min(SNR, 5) / SNR (Hang et al. 2023, arXiv:2303.09556, section 3.4).
double min_snr(const Schedule& schedule, double t, double) { return std::min(1.0, kMinSnrGamma / snr(schedule.at(t))); }
/// Those of the variational bound up to `grid_start`, (SNR(t-1) / SNR(t) - 1) / 2 (Kingma et al. 2021,
/// arXiv:2107.00630, eq. 14); at t = 1, where that has no bound, what it is at t = 2, and beyond the start what it is
/// there.
double vlb(const Schedule& schedule, double t, double) {
    const double start = double(grid_start(schedule)), from = std::min(std::max(t, 2.0), start);
    return from < 2 ? 1 : (snr(schedule.at(from - 1)) / snr(schedule.at(from)) - 1) / 2;
}
/// What makes it the squared error of v, 1 / alpha^2.
double of_v(const Schedule& schedule, double t, double) { return std::pow(normalised(schedule.at(t)).alpha, -2); }
/// The squared error of the velocity eps - x0, (1 + sigma / alpha)^2.
double of_flow(const Schedule& schedule, double t, double) { return std::pow(1 + schedule.at(t).ratio(), 2); }
/// 1 + (sigma / (alpha sigma_data))^2, the squared error of what prediction edm says (Karras et al. 2022,
/// arXiv:2206.00364, table 1).
double of_edm(const Schedule& schedule, double t, double sigma_data) {
    return 1 + std::pow(schedule.at(t).ratio() / sigma_data, 2);
}

const Table<Weighting>& weightings() {
    static const Table<Weighting> table = {{"simple", {simple}},
                                           {"min-snr", {min_snr}},
                                           {"vlb", {vlb}},
                                           {"v", {of_v, /*reaches_pure_noise=*/true}},
                                           {"flow", {of_flow, /*reaches_pure_noise=*/true}},
                                           {"edm", {of_edm, /*reaches_pure_noise=*/true}}};
    return table;
}

/// A weight by time.
using WeightAt = std::function<double(double t)>;

/// Of the squared error of eps.
WeightAt eps_weight(const Schedule& schedule, const std::string& weighting, double sigma_data) {
    const auto [at, reaches_pure_noise] = look_up("weighting", weightings(), weighting);
    double sum = 0;
    for (int64_t t = 1; t <= schedule.steps(); ++t) sum += at(schedule, double(t), sigma_data);
    const double scale = reaches_pure_noise ? 1 : double(schedule.steps()) / sum;
    return [=, at = at](double t) { return at(schedule, t, sigma_data) * scale; };
}

/// Where a path ends in pure noise, its last weight has no bound: it is that of the time one before.
WeightAt bounded(WeightAt weight) {
    return [=](double t) {
        const double here = weight(t);
        return std::isfinite(here) || t < 2 ? here : weight(t - 1);
    };
}

torch::Tensor column(const WeightAt& weight, const Batch& batch) {
    std::vector<double> weights;
    for (const auto& level : batch.levels) weights.push_back(weight(level.t));
    return column(weights, batch.x0).flatten();
}

/// x_t of each example at its own level (Ho et al. 2020, eq. 4).
torch::Tensor noisy(const Batch& batch) {
    return column(batch, &NoiseLevel::alpha) * batch.x0 + column(batch, &NoiseLevel::sigma) * batch.eps;
}

/// The network's eps at x, each example at its own level.
torch::Tensor eps_at(const torch::Tensor& x, const torch::Tensor& output, const Parameterization& parameterization,
                     const Batch& batch) {
    std::vector<double> of_x, of_output;
    for (const auto& level : batch.levels) {
        const EpsFactors factors = parameterization.eps_factors(level);
        of_x.push_back(factors.of_x), of_output.push_back(factors.of_output);
    }
    return column(of_x, x) * x + column(of_output, x) * output;
}

/// x of a batch, the network's eps there, and the target's.
struct Seen {
    torch::Tensor x, eps;
};

/// The unweighted loss of each example. With the network's score s(x) = -eps_hat / sigma of the density of
/// x = alpha x0 + sigma eps, in D numbers. At each level ism and the sliced ones are dsm less 1 in the mean, whatever
/// the network: where dsm ends at 1 - sigma^2 E|score|^2 / D, they end at -sigma^2 E|score|^2 / D. They take
/// derivatives of derivatives, which only an MLP has.
using EpsLoss = torch::Tensor (*)(const Seen& seen, const Batch& batch);

/// Denoising score matching (Vincent 2011, eq. 11): (sigma^2 / D) |s + eps / sigma|^2, with its usual weight sigma^2,
/// which is the DDPM loss in other words.
torch::Tensor dsm(const Seen& seen, const Batch& batch) { return (seen.eps - batch.eps).square().flatten(1).mean(1); }

/// The derivative of a number of each example, differentiable itself.
torch::Tensor slope(const torch::Tensor& each, const torch::Tensor& x) {
    return torch::autograd::grad({each.sum()}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true)[0];
}

torch::Tensor sigma_of(const Batch& batch) { return column(batch, &NoiseLevel::sigma).flatten(); }

/// Implicit score matching (Hyvarinen 2005, theorem 1): (sigma^2 / D) (2 tr grad s + |s|^2), the trace exact, by D
/// derivatives.
torch::Tensor ism(const Seen& seen, const Batch& batch) {
    const auto eps = seen.eps.flatten(1);
    auto trace = torch::zeros({eps.size(0)}, eps.options());
    for (int64_t i = 0; i < eps.size(1); ++i) {
        trace = trace + slope(eps.select(1, i), seen.x).flatten(1).select(1, i);
    }
    return eps.square().mean(1) - 2 * sigma_of(batch) * trace / double(eps.size(1));
}

/// Sliced score matching (Song et al. 2019, arXiv:1905.07088): (sigma^2 / D) (2 v grad s v + S), its mean over the
/// batch's directions v. `square_of`: S, in eps's unit, from eps and eps v.
template <class Along>
torch::Tensor sliced(const Seen& seen, const Batch& batch, const Along& square_of) {
    const auto eps = seen.eps.flatten(1), directions = batch.directions.flatten(2);
    const double numbers = double(eps.size(1)), count = double(directions.size(1));
    auto sum = torch::zeros({eps.size(0)}, eps.options());
    for (int64_t m = 0; m < directions.size(1); ++m) {
        const auto v = directions.select(1, m), along = (eps * v).sum(1);
        const auto curvature = (slope(along, seen.x).flatten(1) * v).sum(1);
        sum = sum + (square_of(eps, along) - 2 * sigma_of(batch) * curvature) / (numbers * count);
    }
    return sum;
}

/// S = (v s)^2 (eq. 7).
torch::Tensor ssm(const Seen& seen, const Batch& batch) {
    return sliced(seen, batch, [](const auto&, const auto& along) { return along.square(); });
}

/// S = |s|^2, with less variance (eq. 8).
torch::Tensor ssm_vr(const Seen& seen, const Batch& batch) {
    return sliced(seen, batch, [](const auto& eps, const auto&) { return eps.square().sum(1); });
}

struct ObjectiveKind {
    EpsLoss loss;  ///< null: the DDPM loss of the network's output
    ObjectiveNeeds needs;
};
const Table<ObjectiveKind>& objectives() {
    static const Table<ObjectiveKind> table = {{"ddpm", {nullptr, {}}},
                                               {"dsm", {dsm, {}}},
                                               {"ism", {ism, {.second_derivatives = true}}},
                                               {"ssm", {ssm, {.second_derivatives = true, .directions = true}}},
                                               {"ssm-vr", {ssm_vr, {.second_derivatives = true, .directions = true}}}};
    return table;
}

}  // namespace

std::function<double(double t)> output_weight(const Parameterization& parameterization, const Schedule& schedule,
                                              const std::string& weighting) {
    return bounded([=, of_eps = eps_weight(schedule, weighting, parameterization.sigma_data)](double t) {
        const double error = parameterization.eps_factors(normalised(schedule.at(t))).of_output;
        return of_eps(t) * (error * error);
    });
}

std::vector<std::string> weighting_names() { return names(weightings()); }

std::vector<std::string> weightings_to_pure_noise() {
    std::vector<std::string> found;
    for (const auto& [name, kind] : weightings()) {
        if (kind.reaches_pure_noise) found.push_back(name);
    }
    return found;
}

Objective ddpm_loss(const Parameterization& parameterization, const Schedule& schedule, const std::string& weighting) {
    const WeightAt weight = output_weight(parameterization, schedule, weighting);
    bool weighted = false;
    for (int64_t t = 1; t <= schedule.steps(); ++t) weighted = weighted || float(weight(double(t))) != 1;
    return [=](const Network& network, const Batch& batch) {
        const auto alpha = column(batch, &NoiseLevel::alpha), sigma = column(batch, &NoiseLevel::sigma);
        const auto x = alpha * batch.x0 + sigma * batch.eps;  // Ho et al. 2020, eq. 4
        const auto output = network_output(network, parameterization, schedule, x, batch.levels, batch.condition);
        const auto target = parameterization.target(batch.x0, batch.eps, alpha, sigma);
        const auto errors = (output - target).square().flatten(1).mean(1);
        return weighted ? errors * column(weight, batch) : errors;
    };
}

std::vector<std::string> objective_names() { return names(objectives()); }

ObjectiveNeeds needs_of(const std::string& objective) { return look_up("objective", objectives(), objective).needs; }

Objective make_objective(const std::string& name, const Parameterization& parameterization, const Schedule& schedule,
                         const std::string& weighting) {
    const auto [loss, needs] = look_up("objective", objectives(), name);
    if (!loss) return ddpm_loss(parameterization, schedule, weighting);
    const WeightAt weight = bounded(eps_weight(schedule, weighting, parameterization.sigma_data));
    return [=, loss = loss, needs = needs](const Network& network, const Batch& batch) {
        const c10::AutoGradMode gradients(c10::GradMode::is_enabled() || needs.second_derivatives);
        auto x = noisy(batch).detach();
        if (needs.second_derivatives) x.requires_grad_(true);
        const auto output = network_output(network, parameterization, schedule, x, batch.levels, batch.condition);
        const auto each = loss({x, eps_at(x, output, parameterization, batch)}, batch);
        return each * column(weight, batch);
    };
}

}  // namespace diffuse
