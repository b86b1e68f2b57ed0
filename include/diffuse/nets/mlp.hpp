#pragma once

#include <memory>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/diffusion/network.hpp"
#include "diffuse/nets/parameters.hpp"

namespace diffuse {

struct MlpOptions {
    int64_t width = 128;
    int64_t blocks = 3;
};
Fields fields(MlpOptions& options);

/// A multilayer perceptron from noisy examples of any shape, taken as vectors, and their time to a prediction of the
/// same shape. Residual blocks h + B silu(s * A silu(h) + b), whose scale s and shift b are linear in an embedding of
/// the time and of the condition (FiLM; Perez et al. 2018, arXiv:1709.07871). SiLU throughout, which is smooth, so that
/// derivatives of derivatives mean something: with ReLU the divergence of a score would be without its kinks. The last
/// layer starts at zero, so a new network predicts zero. Copies share their weights; several threads may call at once.
class Mlp {
public:
    /// `numbers`: of an example. classes, given: as of `Net`.
    Mlp(const MlpOptions& options, int64_t numbers, int64_t classes, int64_t given, uint64_t seed,
        torch::Device device);

    torch::Tensor operator()(const NetworkInput& input) const;
    NamedTensors named_parameters() const;
    std::vector<torch::Tensor> parameters() const;
    /// Whether a weight is that of a linear map between hidden layers.
    static bool is_matrix(const std::string& name, const torch::Tensor& weight);
    void set_training(bool) {}
    void freeze();
    void seed_dropout(uint64_t) {}

private:
    struct Modules;
    std::shared_ptr<Modules> modules_;
};

}  // namespace diffuse
