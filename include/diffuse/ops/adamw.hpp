#pragma once

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// The numbers of one step of AdamW (optimizer.hpp).
struct AdamWStep {
    double factor;  ///< of the gradient
    double beta1, beta2, epsilon;
    double shrink, rate;       ///< w <- shrink w - rate mean / (sqrt(square / square_correction) + epsilon)
    double square_correction;  ///< of the square's start at zero
    double ema_decay;
};

/// That step over vectors of float32, all of one length, in place but for the gradient. On a CPU one pass.
void adamw_(const AdamWStep& step, const torch::Tensor& gradient, const torch::Tensor& mean,
            const torch::Tensor& square, const torch::Tensor& weights, const torch::Tensor& ema);

/// The same from LibTorch's operators, on any device.
void adamw_reference_(const AdamWStep& step, const torch::Tensor& gradient, const torch::Tensor& mean,
                      const torch::Tensor& square, const torch::Tensor& weights, const torch::Tensor& ema);

}  // namespace diffuse
