#pragma once

#include <optional>

#include "diffuse/data/dataset.hpp"
#include "diffuse/diffusion/analytic.hpp"

namespace diffuse {

/// Points that are drawn from a distribution, the row of options.kind in the table in toys.cpp: options.limit of them
/// (0: 100,000), each a function of it, options.seed and its index; the test split holds as many others, at most
/// 10,000. In the plane, the customary sets in FFJORD's sizes (Grathwohl et al. 2019, arXiv:1810.01367, their
/// toy_data.py), with their parts as labels.
/// Throws Error for a mixture's means of different lengths, and for stds or weights that are not one for each mean.
Dataset draw_points(const DatasetOptions& options, Split split);
std::vector<std::string> point_kinds();

/// The distribution that points are drawn from as a mixture: exact for eight-gaussians, fractal and mixture, and for
/// two-moons, swiss-roll and rings by round ones so near to one another along the curve that four digits of the density
/// are right. None for the others, and for data that are not drawn.
std::optional<Mixture> known_mixture(const DatasetOptions& options);

}  // namespace diffuse
