#pragma once

#include <vector>

#include "diffuse/nets/parameters.hpp"

namespace diffuse {

/// Parameters of a network, in the order in which they lie in flat vectors.
using Parameters = std::vector<torch::Tensor>;

/// All parameters as one contiguous vector: each becomes a view of it (4-D weights on a CPU in channels-last order), so
/// that what touches every weight is one operation.
torch::Tensor flatten_parameters(Parameters parameters);

/// Likewise one vector for all gradients, zero at first; backward() adds into it.
torch::Tensor flatten_gradients(Parameters parameters);

/// The parts of another vector of that layout, each with its parameter's shape.
Parameters views_of(const torch::Tensor& flat, const Parameters& parameters);

/// The same under names: `like` holds the parameters.
NamedTensors named_views(const torch::Tensor& flat, const NamedTensors& like);

/// Points parameters at another vector of that layout, e.g. the averaged weights.
void view_parameters(Parameters parameters, const torch::Tensor& flat);

}  // namespace diffuse
