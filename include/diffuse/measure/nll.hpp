#pragma once

#include <optional>

#include "diffuse/base/fields.hpp"
#include "diffuse/run/model.hpp"

namespace diffuse {

struct NllOptions {
    int64_t ode_steps = 50, probes = 1;
    std::optional<double> max_ratio;  ///< see grid.hpp
    std::optional<double> tolerance;  ///< of dopri5, instead of ode_steps of heun
    uint64_t seed = 0;                ///< random seed for all noise
};
/// Those that the options of sampling have not.
Fields fields(NllOptions& options);

/// Bits per dimension of images by three measures (likelihood.hpp), float64 [N] each: the ODE from the dequantised
/// images on, as if they were x_1; the bound by the ODE from x_1 on; the variational bound.
struct Nll {
    torch::Tensor dequantised_ode, ode, variational;
    int64_t start = 0;                                              ///< t where grids begin
    int64_t ode_steps = 0;                                          ///< as taken: none where grids begin at t = 1
    int64_t dequantised_nfe = 0, ode_nfe = 0, variational_nfe = 0;  ///< network evaluations an image, their mean
};

/// bytes: uint8 [N, C, H, W], on the CPU; condition: of each image. An image's figures depend on its index and the seed
/// alone: images go in groups of one size, each on one thread.
Nll measure_nll(const Model& model, const torch::Tensor& bytes, const Condition& condition, const NllOptions& options);

/// log p of points by the ODE, in nats of what the network sees (see `Codec::log_slope`), float64 [N]: on from the
/// lowest trained level, whose noise the distribution has in it. The divergence is exact. z: float32 [N, D]; condition:
/// of each point.
struct PointDensity {
    torch::Tensor log_density;
    int64_t start = 0, ode_steps = 0, nfe = 0;
};
PointDensity measure_point_density(const Model& model, const torch::Tensor& z, const Condition& condition,
                                   const NllOptions& options);

}  // namespace diffuse
