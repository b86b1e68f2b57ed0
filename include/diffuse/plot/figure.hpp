#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace diffuse {

/// A curve through points (x, y), each marked; dashed curves have no marks.
struct Curve {
    std::string name;
    std::vector<double> x, y;
    bool dashed = false;
};

/// One pair of axes.
struct Panel {
    std::string x_label, y_label;
    std::vector<Curve> curves;
};

/// Panels side by side, under a title.
struct Figure {
    std::string title;
    std::vector<Panel> panels;
};

/// Draws it by gnuplot, as .svg or .png as the path ends. Throws Error where gnuplot cannot draw it or the file cannot
/// be written.
void write_figure(const std::filesystem::path& path, const Figure& figure);

/// Throws Error where there is no gnuplot; for use before the work whose result is to be drawn.
void require_gnuplot();

}  // namespace diffuse
