#pragma once

#include <string>
#include <vector>

#include "diffuse/run/model.hpp"

namespace diffuse {

/// A denoiser in closed form in place of a trained network, on the schedule of a config and for its data set's
/// training split. gaussian: the normal distribution of the data's mean and covariance. mixture: the one that the data
/// are drawn from, of the kinds that have one (`known_mixture`). empirical: the data set itself. local: the local
/// equivariant one, of images, of the first 1,000. Throws Error for an unknown name, and where the data have no such
/// denoiser.
Model analytic_model(const std::string& name, const Config& config, const Dataset& train);
std::vector<std::string> analytic_names();

}  // namespace diffuse
