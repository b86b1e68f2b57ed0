#include "diffuse/measure/fisher.hpp"

#include <fmt/format.h>

#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/data/toys.hpp"
#include "measure/measures.hpp"

namespace diffuse {

namespace {

/// Curves of columns over sigma, by their names in the rows.
Panel panel_over_sigma(const Json& rows, const std::vector<std::string>& columns) {
    Panel panel{"sigma", columns.front(), {}, "", /*log_x=*/true, /*log_y=*/true};
    for (const auto& column : columns) {
        Curve curve{.name = column, .mark = Mark::kErrors};
        for (const auto& row : rows) {
            curve.x.push_back(row["sigma"].get<double>());
            curve.y.push_back(row[column].get<double>());
            curve.u.push_back(row[column + kErrorSuffix].get<double>());
        }
        panel.curves.push_back(curve);
    }
    return panel;
}

/// The levels that were asked for, or eight from 0.05 to 10.
std::vector<double> sigmas_of(const MeasureOptions& options) {
    if (!options.sigmas.empty()) return options.sigmas;
    std::vector<double> all;
    for (int i = 0; i < 8; ++i) all.push_back(std::round(0.05 * std::pow(200, i / 7.0) * 1000) / 1000);
    return all;
}

Denoiser exact_denoiser(const DatasetOptions& dataset) {
    if (const auto mixture = known_mixture(dataset)) return mixture_denoiser(*mixture);
    throw Error(fmt::format("fisher: the score of data of kind {} is not known; it is of {}", dataset.kind,
                            "eight-gaussians, fractal, mixture, two-moons, swiss-roll and rings"));
}

/// The model's denoiser of no condition, for points on the CPU.
Denoiser learned_denoiser(const Model& model) {
    return [at = model.denoiser({}, {}), device = model.device](const torch::Tensor& x, const NoiseLevel& level) {
        const auto [x0, eps] = at(x.to(device), level);
        return Prediction{x0.cpu(), eps.cpu()};
    };
}

/// The network extrapolates where it was never trained.
void warn_of_untrained_levels(const Model& model, const std::vector<double>& sigmas) {
    const double first = model.schedule.at(1).ratio(), last = model.schedule.at(double(model.schedule.steps())).ratio();
    for (const double sigma : sigmas) {
        if (sigma >= first && sigma <= last) continue;
        return log::warn(
            fmt::format("sigma {:g} is not among the noise levels of the training, {:.3g} to {:.3g}: the "
                        "score there was never learned",
                        sigma, first, last));
    }
}

Json row_of_level(const FisherDivergence& found) {
    Json row = {{"sigma", found.sigma}};
    put(row, "fisher", found.divergence);
    put(row, "exact_square", found.exact_square);
    put(row, "relative", found.relative);
    put(row, "floor", found.floor);
    return row;
}

Report report_fisher(const Model& model, const MeasureOptions& options) {
    const Denoiser exact = exact_denoiser(options.dataset);
    const Dataset test = test_examples(model, options, kDefaultPoints);
    Report report{.head = {{"metric",
                            "Fisher divergence E|s - s*|^2 of the learned score from the exact one, of noisy data at "
                            "sigma, alpha = 1; floor: of denoising score matching"},
                           {"points", test.size()},
                           {"errors", "one standard error, of means over the points"}}};
    tell_condition(report, model, /*condition=*/{}, options);
    const Denoiser learned = learned_denoiser(model);
    const auto sigmas = sigmas_of(options);
    warn_of_untrained_levels(model, sigmas);
    for (const double sigma : sigmas) {
        const auto found = fisher_divergence(learned, exact, test.examples, sigma, uint64_t(options.seed));
        add(report, row_of_level(found), options);
    }
    report.figure = Figure{
        "Error of the learned score",
        {panel_over_sigma(report.rows, {"fisher", "exact_square"}), panel_over_sigma(report.rows, {"relative"})}};
    return report;
}

}  // namespace

FisherDivergence fisher_divergence(const Denoiser& learned, const Denoiser& exact, const torch::Tensor& data,
                                   double sigma, uint64_t seed) {
    constexpr int64_t kGroup = 4096;
    const SingleThreaded guard;  // so that the digits do not depend on the number of threads
    const NoiseLevel level = level_of_ratio(sigma, /*alpha=*/1);
    const auto noise = normal_images(seed, Purpose::kBoundNoise, 0, data.size(0), data.sizes().slice(1), /*draw=*/0);
    const auto noisy = data.to(torch::kFloat64) + sigma * noise.to(torch::kFloat64);
    std::vector<torch::Tensor> errors, squares;
    for (const auto& x : noisy.split(kGroup)) {
        const auto best = exact(x, level).eps, said = learned(x, level).eps;  // s = -eps / sigma
        errors.push_back((said - best).square().flatten(1).sum(1) / (sigma * sigma));
        squares.push_back(best.square().flatten(1).sum(1) / (sigma * sigma));
    }
    const auto each = torch::cat(errors), square = torch::cat(squares);
    const Estimate divergence = mean_estimate(each), exact_square = mean_estimate(square);
    const double ratio = divergence.value / exact_square.value;
    const double share = sigma * sigma / double(data[0].numel());
    return {.sigma = sigma,
            .divergence = divergence,
            .exact_square = exact_square,
            .relative = {ratio, mean_estimate(each - ratio * square).error / exact_square.value},
            .floor = {1 - share * exact_square.value, share * exact_square.error}};
}

Measure fisher_measure() {
    return {.about = "error of the score, of points whose distribution is known",
            .run = report_fisher,
            .options = {"num", "data", "weights", "seed", "sigmas", "plot"}};
}

}  // namespace diffuse
