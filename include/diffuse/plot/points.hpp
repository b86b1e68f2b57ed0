#pragma once

#include <functional>
#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"
#include "diffuse/plot/figure.hpp"

namespace diffuse {

/// How points are shown: each as a dot, or how many lie where.
enum class PointStyle { kScatter, kDensity };

/// Points, float64 [N, D], by the names of their D numbers: of one number its histogram, of two the plane, of more up
/// to four panels, each of a number and the next. The axes are equal where the names are x and y, as those of the toys,
/// and their ranges differ by less than a factor of 3.
std::vector<Panel> point_panels(const torch::Tensor& values, const std::vector<std::string>& names, PointStyle style);

/// A gradient as arrows on a lattice over the region of points in the plane, float64 [N, 2], which are shown as dots
/// behind them; their lengths are as the square roots of the gradient's, the longest a twelfth of the region's width.
/// Where the axes are not equal, the gradient is by numbers in units of the region's width and height.
/// field: float64 [M, 2] -> [M, 2].
Panel field_panel(const torch::Tensor& values, const std::vector<std::string>& names,
                  const std::function<torch::Tensor(const torch::Tensor& at)>& field, const std::string& title);

}  // namespace diffuse
