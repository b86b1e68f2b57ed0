#include "diffuse/diffusion/parameterization.hpp"

#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

const Table<Parameterization>& predictions() {
    static const Table<Parameterization> table = {
        {"eps",
         {.target = [](const Tensor&, const Tensor& eps, const Tensor&, const Tensor&) { return eps; },
          .predict = [](const Tensor& eps, const Tensor& x, const NoiseLevel& level) -> Prediction {
              TORCH_INTERNAL_ASSERT(level.alpha > 0, "eps says nothing of x0 where alpha is 0");
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

std::vector<std::string> prediction_names() { return names(predictions()); }

Fields fields(ParameterizationOptions& options) {
    return {{"prediction", Choice{&options.prediction, prediction_names()},
             "meaning of the network's output; the loss is the error of eps for all"},
            {"input_skip", &options.input_skip,
             "input added to the output, with prediction eps (near pure noise, eps is x)"}};
}

Parameterization make_parameterization(const ParameterizationOptions& options) {
    Parameterization result = look_up("prediction", predictions(), options.prediction);
    result.input_skip = options.input_skip && options.prediction == "eps";
    return result;
}

}  // namespace diffuse
