#pragma once

#include <string>

#include "diffuse/base/fields.hpp"
#include "diffuse/base/torch.hpp"
#include "diffuse/diffusion/level.hpp"

namespace diffuse {

struct ParameterizationOptions {
    std::string prediction = "eps";
    bool input_skip = true;
};
Fields fields(ParameterizationOptions& options);

/// Estimates of E[x0 | x_t] and E[eps | x_t], with x_t = alpha x0 + sigma eps.
struct Prediction {
    torch::Tensor x0, eps;
};

/// What a network's output means: its target in training, and the prediction that an output stands for in sampling.
/// eps: the noise (Ho et al. 2020, arXiv:2006.11239). x0: the picture. v: alpha eps - sigma x0 (Salimans & Ho 2022,
/// arXiv:2202.00512, appendix D); a network that says nothing, v = 0, is then right about data of unit variance.
struct Parameterization {
    /// What to predict of x = alpha x0 + sigma eps; alpha and sigma are [N, 1, ...] or scalars.
    torch::Tensor (*target)(const torch::Tensor& x0, const torch::Tensor& eps, const torch::Tensor& alpha,
                            const torch::Tensor& sigma);
    /// The x0 and eps of an output at x, without dividing by what may be tiny where that can be helped.
    Prediction (*predict)(const torch::Tensor& output, const torch::Tensor& x, const NoiseLevel& level);
    /// The error of eps that an error of the output makes, as its multiple.
    double (*eps_error)(const NoiseLevel& level);
    /// The output is what the network says and x. Near pure noise eps is nearly x, which is hard to copy through
    /// normalisations; what is left to say is as small as alpha. For eps alone.
    bool input_skip = false;
};
Parameterization make_parameterization(const ParameterizationOptions& options);
std::vector<std::string> prediction_names();

}  // namespace diffuse
