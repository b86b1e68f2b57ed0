#pragma once

#include <optional>

#include "diffuse/data/dataset.hpp"
#include "diffuse/diffusion/analytic.hpp"

namespace diffuse {

/// Points that are drawn from a distribution: options.limit of them (0: 100,000), each a function of it, options.seed
/// and its index; the test split holds as many others, at most 10,000. In the plane, the customary sets in FFJORD's
/// sizes (Grathwohl et al. 2019, arXiv:1810.01367, their toy_data.py), with their parts as labels: eight-gaussians:
/// normal distributions of standard deviation 0.354 on a circle of radius 2.83. two-moons: two half circles of radius
/// 2, moved by 0.2. swiss-roll: (t cos t, t sin t) / 5, t from 1.5 pi to 4.5 pi, moved by 0.2. checkerboard: uniform on
/// 8 squares of side 2. rings: circles of radius 3, 2.25, 1.5 and 0.75, moved by 0.08. pinwheel: 5 arms. fractal:
/// normal distributions along the branches of two trees, the classes. mixture: round normal distributions of
/// options.means, options.stds and options.weights, in as many dimensions as the means have. Throws Error for means of
/// different lengths, and for stds or weights that are not one for each mean.
Dataset draw_points(const DatasetOptions& options, Split split);
std::vector<std::string> point_kinds();

/// The distribution that points are drawn from as a mixture: exact for eight-gaussians, fractal and mixture, and for
/// two-moons, swiss-roll and rings by round ones so near to one another along the curve that four digits of the density
/// are right. None for the others, and for data that are not drawn.
std::optional<Mixture> known_mixture(const DatasetOptions& options);

}  // namespace diffuse
