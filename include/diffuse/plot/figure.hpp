#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// How numbers are drawn: lines through marked points, these with error bars in the order of x, bare or thin lines,
/// points, dots; a map of colours; arrows.
enum class Mark { kLinePoints, kErrors, kLine, kThin, kDashed, kPoints, kDots, kHeat, kArrows };

/// Points (x, y) and how they are drawn. By convention a formula is a line, what was measured is points. A NaN ends a
/// line; the next point begins another.
struct Curve {
    std::string name;  ///< empty: it has the colour of the one before, and no entry in the legend
    std::vector<double> x, y;
    Mark mark = Mark::kLinePoints;
    /// Of a map, u: its values; of arrows: how far they go in x and in y; of error bars, u: how far up and down.
    std::vector<double> u = {}, v = {};
};

/// The numbers of a tensor of any shape, row by row, as curves have them.
std::vector<double> numbers(const torch::Tensor& tensor);

/// One pair of axes.
struct Panel {
    std::string x_label, y_label;
    std::vector<Curve> curves;
    std::string title = {};
    bool log_x = false, log_y = false;
    bool equal_axes = false;  ///< a unit is as long in x as in y
};

/// Panels side by side, under a title.
struct Figure {
    std::string title;
    std::vector<Panel> panels;
};

/// Its numbers, a row for each point under the head "panel,curve,x,y,u,v"; two empty lines stand between curves.
std::string figure_csv(const Figure& figure);

/// Writes NAME.csv and NAME.gnuplot, which draws it, into a folder, and, where there is gnuplot, what that draws:
/// NAME.svg and NAME.png. Throws Error where a file cannot be written, and where gnuplot fails; numbers and script are
/// kept then, and no image of an earlier run.
void save_figure(const std::filesystem::path& folder, const std::string& name, const Figure& figure);

/// Draws it by gnuplot, as .svg or .png as the path ends, and nothing else. Throws Error as above; where gnuplot fails,
/// PATH.csv and PATH.gnuplot are kept. To be called when all other results are safe.
void write_figure(const std::filesystem::path& path, const Figure& figure);

bool has_gnuplot();
/// What to do where there is none.
inline constexpr const char* kInstallGnuplot = "install it (Debian: apt-get install gnuplot-nox)";
/// Throws Error where there is no gnuplot; for use before the work whose result is to be drawn.
void require_gnuplot();

}  // namespace diffuse
