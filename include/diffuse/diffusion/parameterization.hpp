#pragma once

#include <functional>
#include <optional>
#include <string>

#include "diffuse/base/fields.hpp"
#include "diffuse/base/torch.hpp"
#include "diffuse/diffusion/level.hpp"

namespace diffuse {

struct ParameterizationOptions {
    std::string prediction = "eps";
    std::string input_skip = "scaled";
    std::optional<double> sigma_data;  ///< of edm; measured from the data where it is not given
};
Fields fields(ParameterizationOptions& options);

/// Estimates of E[x0 | x_t] and E[eps | x_t], with x_t = alpha x0 + sigma eps.
struct Prediction {
    torch::Tensor x0, eps;
};

/// Another x0 at x with the eps that goes with it, (x - alpha x0) / sigma; `eps` where sigma is 0, and any would do.
Prediction with_x0(const torch::Tensor& x0, const torch::Tensor& eps, const torch::Tensor& x, const NoiseLevel& level);

/// Numbers, one for each example or one for all, to be multiplied with x: [N or 1] -> [N or 1, 1, ...].
torch::Tensor beside(const torch::Tensor& numbers, const torch::Tensor& x);

struct EpsFactors {
    double of_x, of_output;
};

/// What a network's output means: its target in training, and the prediction that an output stands for in sampling.
/// eps: the noise (Ho et al. 2020, arXiv:2006.11239), of which `input_skip` says how the output F makes it. none:
/// eps = F. scaled: eps = x + alpha F. Near pure noise eps is nearly x, which is hard to copy through normalisations,
/// and what is left to say is as small as alpha; so F is of the size of x0 at every level, x0 = alpha / (1 + sigma) x -
/// sigma F, and no error is multiplied by sigma / alpha. plain: eps = x + F, as networks of before were trained. x0:
/// the image. v: alpha eps - sigma x0 (Salimans & Ho 2022, arXiv:2202.00512, appendix D); a network that says
/// nothing, v = 0, is then right about data of unit variance. flow: eps - x0, the velocity of the linear path (Lipman
/// et al. 2023, arXiv:2210.02747, eq. 23). edm: what preconditioning leaves to the network (Karras et al. 2022,
/// arXiv:2206.00364, table 1 and eq. 7), with c_skip, c_out and c_in for data of standard deviation sigma_data; with
/// sigma_data = 1 it is -v. Levels are normalised ones.
struct Parameterization {
    /// What to predict of x = alpha x0 + sigma eps; alpha and sigma are [N, 1, ...] or scalars.
    std::function<torch::Tensor(const torch::Tensor& x0, const torch::Tensor& eps, const torch::Tensor& alpha,
                                const torch::Tensor& sigma)>
        target;
    /// The x0 and eps of an output at x, without dividing by what may be tiny where that can be helped.
    std::function<Prediction(const torch::Tensor& output, const torch::Tensor& x, const NoiseLevel& level)> predict;
    /// eps = of_x x + of_output F, which `predict` computes with care: how an error of the output F shows in eps.
    std::function<EpsFactors(const NoiseLevel& level)> eps_factors;
    /// Of the data that the network expects, which is told x / sqrt(sigma^2 + alpha^2 sigma_data^2).
    double sigma_data = 1;
};
Parameterization make_parameterization(const ParameterizationOptions& options);
std::vector<std::string> prediction_names();

}  // namespace diffuse
