#pragma once

#include "diffuse/base/fields.hpp"
#include "diffuse/base/torch.hpp"

namespace diffuse {

class Net;
struct ConditionSizes;

struct MlpOptions {
    int64_t width = 128;
    int64_t blocks = 3;
};
Fields fields(MlpOptions& options);

/// A multilayer perceptron from noisy examples of any shape, taken as vectors, and their time to a prediction of the
/// same shape. Residual blocks h + B silu(s * A silu(h) + b), whose scale s and shift b are linear in an embedding of
/// the time and of the condition (FiLM; Perez et al. 2018, arXiv:1709.07871). SiLU throughout, which is smooth, so that
/// derivatives of derivatives mean something: with ReLU the divergence of a score would be without its kinks. The last
/// layer starts at zero, so a new network predicts zero. Its matrices are those between hidden layers.
/// `numbers`: of an example. Throws Error naming the config key for an odd width.
Net make_mlp(const MlpOptions& options, int64_t numbers, const ConditionSizes& condition, uint64_t seed,
             torch::Device device);

}  // namespace diffuse
