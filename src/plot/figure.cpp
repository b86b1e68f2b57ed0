#include "diffuse/plot/figure.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"

namespace diffuse {
namespace {

constexpr int kPanelWidth = 560, kPanelHeight = 440;
constexpr uintmax_t kMaxBytes = 64 << 20;

/// Okabe & Ito 2008, "Color universal design": told apart by the colour-blind too. Behind them greys.
constexpr const char* kColours =
    "do for [i=1:8] { set linetype i linewidth 2 pointtype 7 pointsize 0.7 linecolor rgb word('"
    "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #000000 #888888', i) }\n"
    "set linetype cycle 8\n"
    "set palette defined (0 '#440154', 1 '#3b528b', 2 '#21918c', 3 '#5ec962', 4 '#fde725')\n";  // viridis

/// A text on one line within quotes, which are doubled inside, as gnuplot and CSV want it.
std::string quoted(const std::string& text, char quote) {
    std::string result(1, quote);
    for (const char c : text) result += c == quote ? std::string(2, quote) : std::string(1, c == '\n' ? ' ' : c);
    return result + quote;
}

/// A text as gnuplot reads it.
std::string quoted(const std::string& text) { return quoted(text, '\''); }

/// A text as a field of a CSV file.
std::string csv_field(const std::string& text) {
    return text.find_first_of(",\"\n") == std::string::npos ? text : quoted(text, '"');
}

/// Columns and style; a linetype, the colour, sets width and point, so it stands before what says otherwise.
std::string with_clause(Mark mark, const std::string& colour) {
    static const std::map<Mark, const char*> styles = {
        {Mark::kLinePoints, "3:4 with linespoints {}"},
        {Mark::kErrors, "3:4:5 with yerrorlines {}"},
        {Mark::kLine, "3:4 with lines {}"},
        {Mark::kThin, "3:4 with lines {} linewidth 0.7"},
        {Mark::kDashed, "3:4 with lines {} dashtype 2"},
        {Mark::kPoints, "3:4 with points {}"},
        {Mark::kDots, "3:4 with points {} pointsize 0.25"},
        {Mark::kHeat, "3:4:5 with image"},
        {Mark::kArrows, "3:4:5:6 with vectors head size graph 0.012,25 filled linewidth 1.2 {}"}};
    return fmt::format(fmt::runtime(styles.at(mark)), colour);
}

bool has_map(const Panel& panel) {
    return std::ranges::any_of(panel.curves, [](const Curve& curve) { return curve.mark == Mark::kHeat; });
}

/// A map fills its axes to the edge; curves keep away from it.
std::string axes(const Panel& panel) {
    return fmt::format(
        "set xlabel {}\nset ylabel {}\nset title {}\n{} logscale x\n{} logscale y\nset offsets {}\nset size {}\n",
        quoted(panel.x_label), quoted(panel.y_label), quoted(panel.title), panel.log_x ? "set" : "unset",
        panel.log_y ? "set" : "unset", has_map(panel) ? "0, 0, 0, 0" : "graph 0.03, graph 0.03, graph 0.05, graph 0.05",
        panel.equal_axes ? "ratio -1" : "noratio");
}

/// Arrows are seen on whatever lies behind them; a curve without a name has the colour of the one before.
std::string colour_clause(const Curve& curve, int colour, bool on_map) {
    if (curve.mark == Mark::kArrows) return fmt::format("linecolor rgb '{}'", on_map ? "#ffffff" : "#000000");
    return fmt::format("linetype {}", std::max(1, colour));
}

/// `first`: the index of its first curve in the file.
std::string panel_script(const Panel& panel, size_t first) {
    std::vector<std::string> curves;
    int colour = 0;
    for (const auto& curve : panel.curves) {
        if (!curve.name.empty()) ++colour;
        curves.push_back(fmt::format("data index {} using {} {}", first + curves.size(),
                                     with_clause(curve.mark, colour_clause(curve, colour, has_map(panel))),
                                     curve.name.empty() ? "notitle" : "title " + quoted(curve.name)));
    }
    return axes(panel) + fmt::format("plot {}\n", fmt::join(curves, ", \\\n     "));
}

std::string figure_script(const Figure& figure, const std::string& name) {
    std::string panels;
    size_t curves = 0;
    for (const auto& panel : figure.panels) {
        panels += panel_script(panel, curves);
        curves += panel.curves.size();
    }
    return fmt::format(
        "# Draws {0}.svg and {0}.png from {0}.csv, in this folder:  gnuplot {0}.gnuplot\n"
        "data = '{0}.csv'\nset datafile separator ','\nset encoding utf8\n{1}"
        "set grid linecolor rgb '#dddddd' linewidth 1\nset key below\nset format '%g'\nset autoscale fix\n"
        "do for [kind in 'svg pngcairo'] {{\n"
        "set terminal kind noenhanced size {2},{3} font 'Helvetica,15' background rgb 'white'\n"
        "set output kind eq 'svg' ? '{0}.svg' : '{0}.png'\n"
        "set multiplot layout 1,{4} title {5}\n{6}unset multiplot\n}}\n",
        name, kColours, kPanelWidth * figure.panels.size(), kPanelHeight, figure.panels.size(), quoted(figure.title),
        panels);
}

/// NAME.csv and NAME.gnuplot.
void write_script(const std::filesystem::path& folder, const std::string& name, const Figure& figure) {
    write_file(folder / (name + ".csv"), figure_csv(figure));
    write_file(folder / (name + ".gnuplot"), figure_script(figure, name));
}

/// Runs the script of a folder. Throws Error, naming `kept`, the script that is left, where gnuplot fails.
void draw(const std::filesystem::path& folder, const std::string& name, const std::filesystem::path& kept) {
    const TemporaryFolder temporary;
    const auto said = temporary / "said";
    const std::string command = fmt::format("cd {} && gnuplot {}.gnuplot >{} 2>&1", shell_word(folder.string()), name,
                                            shell_word(said.string()));
    if (std::system(command.c_str()) == 0) return;
    for (const char* ending : {".svg", ".png"}) std::filesystem::remove(folder / (name + ending));
    throw Error(fmt::format("{}: gnuplot could not draw it: {}", kept.string(), read_file(said, kMaxBytes)),
                kRunFailed);
}

}  // namespace

std::vector<double> numbers(const torch::Tensor& tensor) {
    const auto flat = tensor.to(torch::kFloat64).contiguous();
    return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

std::string figure_csv(const Figure& figure) {
    const std::string head = "panel,curve,x,y,u,v\n";
    std::string text = head;
    const auto extra = [](const std::vector<double>& numbers, size_t i) {
        return i < numbers.size() ? fmt::format("{:.9g}", numbers[i]) : std::string();
    };
    for (size_t p = 0; p < figure.panels.size(); ++p) {
        for (const auto& curve : figure.panels[p].curves) {
            TORCH_INTERNAL_ASSERT(!curve.x.empty(), "a curve without points would shift the index of those behind it");
            if (text != head) text += "\n\n";
            for (size_t i = 0; i < curve.x.size(); ++i) {
                text += fmt::format("{},{},{:.9g},{:.9g},{},{}\n", p + 1, csv_field(curve.name), curve.x[i], curve.y[i],
                                    extra(curve.u, i), extra(curve.v, i));
            }
        }
    }
    return text;
}

bool has_gnuplot() {
    static const bool there = std::system("command -v gnuplot >/dev/null 2>&1") == 0;
    return there;
}

void require_gnuplot() {
    if (has_gnuplot()) return;
    throw Error(fmt::format("plots are drawn by gnuplot, which is not there; {}", kInstallGnuplot));
}

void save_figure(const std::filesystem::path& folder, const std::string& name, const Figure& figure) {
    write_script(folder, name, figure);
    if (has_gnuplot()) draw(folder, name, folder / (name + ".gnuplot"));
}

void write_figure(const std::filesystem::path& path, const Figure& figure) {
    require_gnuplot();
    const TemporaryFolder folder;
    write_script(folder.path(), "figure", figure);
    try {
        draw(folder.path(), "figure", path.string() + ".gnuplot");
    } catch (const Error&) {
        write_script(path.parent_path(), path.filename().string(), figure);
        throw;
    }
    write_file(path, read_file(folder / ("figure" + file_ending(path)), kMaxBytes));
}

}  // namespace diffuse
