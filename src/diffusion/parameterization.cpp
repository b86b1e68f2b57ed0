#include "diffuse/diffusion/parameterization.hpp"

#include <fmt/format.h>

#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

/// With q = sigma^2 + (alpha sigma_data)^2 and normalised levels, table 1's D = c_skip x / alpha + c_out F reads
/// x0 = sigma_data (sigma_data alpha x / q + sigma F / sqrt(q)).
Parameterization edm(double sigma_data) {
    const auto variance = [=](const NoiseLevel& level) {
        return level.sigma * level.sigma + std::pow(level.alpha * sigma_data, 2);
    };
    return {.target =
                [=](const Tensor& x0, const Tensor& eps, const Tensor& alpha, const Tensor& sigma) {
                    const auto q = sigma * sigma + (alpha * sigma_data).square();
                    return (sigma * x0 - sigma_data * sigma_data * alpha * eps) / (sigma_data * q.sqrt());
                },
            .predict = [=](const Tensor& output, const Tensor& x, const NoiseLevel& level) -> Prediction {
                const double q = variance(level);
                const auto scaled = x / q, said = output * (sigma_data / std::sqrt(q));
                return {sigma_data * sigma_data * level.alpha * scaled + level.sigma * said,
                        level.sigma * scaled - level.alpha * said};
            },
            .eps_factors =
                [=](const NoiseLevel& level) {
                    const double q = variance(level);
                    return EpsFactors{level.sigma / q, -level.alpha * sigma_data / std::sqrt(q)};
                },
            .sigma_data = sigma_data};
}

/// x0 and eps at x of what is said of eps alone.
Prediction of_eps(const Tensor& eps, const Tensor& x, const NoiseLevel& level) {
    TORCH_INTERNAL_ASSERT(level.alpha > 0, "eps says nothing of x0 where alpha is 0");
    return {(x - level.sigma * eps) / level.alpha, eps};
}

/// Prediction eps, by what is added to the output.
const Table<Parameterization>& input_skips() {
    static const Table<Parameterization> table = {
        {"none",
         {.target = [](const Tensor&, const Tensor& eps, const Tensor&, const Tensor&) { return eps; },
          .predict = of_eps,
          .eps_factors = [](const NoiseLevel&) -> EpsFactors {
              return {0, 1};
          }}},
        {"plain",
         {.target = [](const Tensor& x0, const Tensor& eps, const Tensor& alpha,
                       const Tensor& sigma) { return eps - (alpha * x0 + sigma * eps); },
          .predict = [](const Tensor& output, const Tensor& x,
                        const NoiseLevel& level) { return of_eps(x + output, x, level); },
          .eps_factors = [](const NoiseLevel&) -> EpsFactors {
              return {1, 1};
          }}},
        {"scaled",  // (1 - sigma) / alpha = alpha / (1 + sigma)
         {.target = [](const Tensor& x0, const Tensor& eps, const Tensor& alpha,
                       const Tensor& sigma) { return alpha / (1 + sigma) * eps - x0; },
          .predict = [](const Tensor& output, const Tensor& x, const NoiseLevel& level) -> Prediction {
              return {level.alpha / (1 + level.sigma) * x - level.sigma * output, x + level.alpha * output};
          },
          .eps_factors = [](const NoiseLevel& level) -> EpsFactors {
              return {1, level.alpha};
          }}},
    };
    return table;
}

const Table<Parameterization>& predictions() {
    static const Table<Parameterization> table = {
        {"eps", look_up("input skip", input_skips(), "none")},
        {"x0",
         {.target = [](const Tensor& x0, const Tensor&, const Tensor&, const Tensor&) { return x0; },
          .predict = [](const Tensor& x0, const Tensor& x, const NoiseLevel& level) -> Prediction {
              return {x0, (x - level.alpha * x0) / level.sigma};
          },
          .eps_factors = [](const NoiseLevel& level) -> EpsFactors {
              return {1 / level.sigma, -level.alpha / level.sigma};
          }}},
        {"v",
         {.target = [](const Tensor& x0, const Tensor& eps, const Tensor& alpha,
                       const Tensor& sigma) { return alpha * eps - sigma * x0; },
          .predict = [](const Tensor& v, const Tensor& x, const NoiseLevel& level) -> Prediction {
              return {level.alpha * x - level.sigma * v, level.sigma * x + level.alpha * v};
          },
          .eps_factors = [](const NoiseLevel& level) -> EpsFactors {
              return {level.sigma, level.alpha};
          }}},
        {"flow",
         {.target = [](const Tensor& x0, const Tensor& eps, const Tensor&, const Tensor&) { return eps - x0; },
          .predict = [](const Tensor& u, const Tensor& x, const NoiseLevel& level) -> Prediction {
              const double sum = level.alpha + level.sigma;
              return {(x - level.sigma * u) / sum, (x + level.alpha * u) / sum};
          },
          .eps_factors =
              [](const NoiseLevel& level) {
                  const double sum = level.alpha + level.sigma;
                  return EpsFactors{1 / sum, level.alpha / sum};
              }}},
        {"edm", edm(/*sigma_data=*/1)},
    };
    return table;
}

}  // namespace

Prediction with_x0(const Tensor& x0, const Tensor& eps, const Tensor& x, const NoiseLevel& level) {
    return {x0, level.sigma > 0 ? (x - level.alpha * x0) / level.sigma : eps};
}

Tensor beside(const Tensor& numbers, const Tensor& x) {
    std::vector<int64_t> shape(size_t(x.dim()), 1);
    shape[0] = numbers.numel();
    return numbers.view(shape);
}

std::vector<std::string> prediction_names() { return names(predictions()); }

Fields fields(ParameterizationOptions& options) {
    return {{"prediction", Choice{&options.prediction, prediction_names()},
             "meaning of the network's output; the loss is the error of eps for all"},
            {"input_skip", Choice{&options.input_skip, names(input_skips())},
             "what is added to the output F with prediction eps; scaled: eps = x + alpha F; plain: x + F"},
            {.key = "sigma_data",
             .value = Number<std::optional<double>>{&options.sigma_data, 1e-3, 1e3},
             .meaning = "root mean square of the data that prediction edm expects; null: measured when a run begins",
             .belongs = {"prediction", {"edm"}}}};
}

Parameterization make_parameterization(const ParameterizationOptions& options) {
    if (options.sigma_data) return edm(*options.sigma_data);
    if (options.prediction == "eps") return look_up("input skip", input_skips(), options.input_skip);
    return look_up("prediction", predictions(), options.prediction);
}

}  // namespace diffuse
