#include "diffuse/ops/adamw.hpp"
#include "ops/simd/kernels.hpp"

namespace diffuse {

using torch::Tensor;

void adamw_(const AdamWStep& step, const Tensor& gradient, const Tensor& mean, const Tensor& square,
            const Tensor& weights, const Tensor& ema) {
    if (!weights.is_cpu()) return adamw_reference_(step, gradient, mean, square, weights, ema);
    const kernels::AdamWNumbers numbers{.factor = float(step.factor),
                                        .mean_share = float(1 - step.beta1),
                                        .beta2 = float(step.beta2),
                                        .square_share = float(1 - step.beta2),
                                        .epsilon = float(step.epsilon),
                                        .shrink = float(step.shrink),
                                        .rate = float(step.rate),
                                        .square_factor = float(1 / step.square_correction),
                                        .ema_share = float(1 - step.ema_decay)};
    kernels::adamw(numbers, gradient.numel(), gradient.data_ptr<float>(), mean.data_ptr<float>(),
                   square.data_ptr<float>(), weights.data_ptr<float>(), ema.data_ptr<float>());
}

void adamw_reference_(const AdamWStep& step, const Tensor& gradient, const Tensor& mean, const Tensor& square,
                      const Tensor& weights, const Tensor& ema) {
    const auto g = gradient * step.factor;
    mean.lerp_(g, 1 - step.beta1);
    square.mul_(step.beta2).addcmul_(g, g, 1 - step.beta2);
    const auto root = (square / step.square_correction).sqrt_().add_(step.epsilon);
    weights.mul_(step.shrink).addcdiv_(mean, root, -step.rate);
    ema.lerp_(weights, 1 - step.ema_decay);
}

}  // namespace diffuse
