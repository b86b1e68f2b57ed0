#include "diffuse/plot/figure.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <numeric>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"

namespace diffuse {
namespace {

constexpr int kPanelWidth = 560, kPanelHeight = 440, kLegendRow = 24;
constexpr double kLetter = 13, kAxisWidth = 380;  // pixels, of a digit as of what gnuplot reckons with
constexpr int kSafeLetters = 30;  // of a name in the legend: gnuplot takes letters to be wider than they are
constexpr size_t kAxisLetters = 30, kLegendLetters = 46;
constexpr uintmax_t kMaxBytes = 64 << 20;

/// Okabe & Ito 2008, "Color universal design": told apart by the colour-blind too. Behind them greys. Then the same
/// with open points and broken lines.
constexpr const char* kColours =
    "colours = '#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #000000 #888888'\n"
    "do for [i=1:8] {\n"
    "set linetype i linewidth 2 pointtype 7 pointsize 0.7 linecolor rgb word(colours, i)\n"
    "set linetype i+8 linewidth 2 dashtype 4 pointtype 4 pointsize 0.9 linecolor rgb word(colours, i)\n"
    "}\n"
    "set linetype cycle 16\n"
    "set palette defined (0 '#440154', 1 '#3b528b', 2 '#21918c', 3 '#5ec962', 4 '#fde725')\n";  // viridis

/// A text on one line within quotes, which are doubled inside, as gnuplot and CSV want it.
std::string quoted(const std::string& text, char quote) {
    std::string result(1, quote);
    for (const char c : text) result += c == quote ? std::string(2, quote) : std::string(1, c == '\n' ? ' ' : c);
    return result + quote;
}

/// Letters of UTF-8 begin with one byte and go on with others.
bool begins_letter(char c) { return (c & 0xC0) != 0x80; }

size_t letters(const std::string& text) { return size_t(std::ranges::count_if(text, begins_letter)); }

/// At most so many letters, the last an ellipsis where some are left out.
std::string shortened(const std::string& text, size_t most) {
    if (letters(text) <= most) return text;
    size_t end = 0;
    for (size_t count = 0; (count += begins_letter(text[end])) < most; ++end) continue;
    return text.substr(0, end) + "…";
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

/// The smallest of 1, 2 and 5 times a power of ten that is at least x.
double round_step(double x) {
    const double power = std::pow(10, std::floor(std::log10(x)));
    return power * (x <= power ? 1 : x <= 2 * power ? 2 : x <= 5 * power ? 5 : 10);
}

/// Ticks at equal distances, with the digits that tell them apart; under the axis of x as many as there is room for,
/// but two at least.
std::string linear_ticks(char axis, double low, double high) {
    if (high == low) return axis == 'x' ? fmt::format("set xtics ({:.9g})\n", low) : "";
    for (int count = 8;; --count) {
        const double step = round_step((high - low) / count), largest = std::max(std::abs(low), std::abs(high));
        const int whole = int(std::floor(std::log10(largest))) + 1, needed = whole - int(std::floor(std::log10(step)));
        const int digits = std::clamp(needed <= 6 ? 6 : std::max(whole, needed), 6, 15);
        size_t longest = 0;
        for (double k = std::ceil(low / step); k <= std::floor(high / step); ++k) {
            longest = std::max(longest, fmt::format("{:.{}g}", k * step, digits).size());
        }
        const std::string format = fmt::format("set format {} '%.{}g'\n", axis, digits);
        if (axis == 'y' || (count == 8 && longest <= 5)) return format;  // gnuplot's own ticks
        const bool fit = step / (high - low) * kAxisWidth >= (double(longest) + 0.5) * kLetter;
        const double next = count > 2 ? round_step((high - low) / (count - 1)) : INFINITY;
        if (fit || std::floor(high / next) <= std::ceil(low / next)) {
            return fmt::format("set {}tics {:.15g}\n{}", axis, step, format);
        }
    }
}

/// Ticks at powers of ten, written as such where there are many; at others too where these are less than three.
std::string log_ticks(char axis, double low, double high) {
    if (high / low > 1e5) return fmt::format("set format {} '10^{{%T}}'\n", axis);
    std::vector<double> ticks;
    for (const std::vector<double>& digits : {std::vector<double>{1}, {1, 2, 5}, {1, 2, 3, 4, 5, 6, 7, 8, 9}}) {
        ticks.clear();
        for (double power = std::floor(std::log10(low)); power <= std::log10(high); ++power) {
            for (const double digit : digits) ticks.push_back(digit * std::pow(10, power));
        }
        std::erase_if(ticks, [&](double x) { return x < low || x > high; });
        if (ticks.size() >= 3) break;
    }
    return ticks.empty() ? "" : fmt::format("set {}tics add ({:g})\n", axis, fmt::join(ticks, ", "));
}

/// What the labels of an axis need beyond gnuplot's own choice. Only what can be drawn counts.
std::string ticks(const Panel& panel, char axis) {
    const bool is_log = axis == 'x' ? panel.log_x : panel.log_y;
    double low = INFINITY, high = -INFINITY;
    for (const auto& curve : panel.curves) {
        for (const double number : axis == 'x' ? curve.x : curve.y) {
            if (!std::isfinite(number) || (is_log && number <= 0)) continue;
            low = std::min(low, number), high = std::max(high, number);
        }
    }
    const std::string plain = fmt::format("set {0}tics autofreq\nset format {0} '%g'\n", axis);
    if (low > high || !std::isfinite(high - low)) return plain;
    return plain + (is_log ? log_ticks(axis, low, high) : linear_ticks(axis, low, high));
}

size_t longest_name(const Panel& panel) {
    size_t longest = 0;
    for (const auto& curve : panel.curves) longest = std::max(longest, letters(curve.name));
    return std::min(longest, kLegendLetters);
}

/// A map fills its axes to the edge; curves keep away from it.
std::string axes(const Panel& panel) {
    return fmt::format(
        "set xlabel {} noenhanced\nset ylabel {} noenhanced\nset title {} noenhanced\n{} logscale x\n{} logscale y\n"
        "set offsets {}\nset size {}\nset key width {}\n{}{}",
        quoted(shortened(panel.x_label, kAxisLetters)), quoted(shortened(panel.y_label, kAxisLetters)),
        quoted(panel.title), panel.log_x ? "set" : "unset", panel.log_y ? "set" : "unset",
        has_map(panel) ? "0, 0, 0, 0" : "graph 0.03, graph 0.03, graph 0.05, graph 0.05",
        panel.equal_axes ? "ratio -1" : "noratio", std::min(0, kSafeLetters - int(longest_name(panel))),
        ticks(panel, 'x'), ticks(panel, 'y'));
}

/// Rows that gnuplot makes of the legend below a panel.
int64_t legend_rows(const Panel& panel) {
    constexpr double kSample = 90;  // pixels beside a name
    const int64_t count = std::ranges::count_if(panel.curves, [](const Curve& curve) { return !curve.name.empty(); });
    const auto columns = std::max(1, int(kPanelWidth / (kLetter * double(longest_name(panel)) + kSample)));
    return (count + columns - 1) / columns;
}

/// Panels have room for two rows of a legend, and grow with more.
int64_t height_of(const Figure& figure) {
    int64_t rows = 2;
    for (const auto& panel : figure.panels) rows = std::max(rows, legend_rows(panel));
    return kPanelHeight + kLegendRow * (rows - 2);
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
        curves.push_back(
            fmt::format("data index {} using {} {}", first + curves.size(),
                        with_clause(curve.mark, colour_clause(curve, colour, has_map(panel))),
                        curve.name.empty() ? "notitle" : "title " + quoted(shortened(curve.name, kLegendLetters))));
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
        "set grid linecolor rgb '#dddddd' linewidth 1\nset key below noenhanced\nset autoscale fix\n"
        "do for [kind in 'svg pngcairo'] {{\n"
        "set terminal kind enhanced size {2},{3} font 'Helvetica,15' background rgb 'white'\n"
        "set output kind eq 'svg' ? '{0}.svg' : '{0}.png'\n"
        "set multiplot layout 1,{4} title {5} noenhanced\n{6}unset multiplot\n}}\n",
        name, kColours, kPanelWidth * figure.panels.size(), height_of(figure), figure.panels.size(),
        quoted(figure.title), panels);
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

/// The order in which the points of a curve are joined.
std::vector<size_t> order_of(const Curve& curve) {
    std::vector<size_t> order(curve.x.size());
    std::iota(order.begin(), order.end(), 0);
    if (curve.mark == Mark::kErrors) std::ranges::stable_sort(order, {}, [&](size_t i) { return curve.x[i]; });
    return order;
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
        return i < numbers.size() ? fmt::format("{:.15g}", numbers[i]) : std::string();
    };
    for (size_t p = 0; p < figure.panels.size(); ++p) {
        for (const auto& curve : figure.panels[p].curves) {
            TORCH_INTERNAL_ASSERT(!curve.x.empty(), "a curve without points would shift the index of those behind it");
            if (text != head) text += "\n\n";
            for (const size_t i : order_of(curve)) {
                text += fmt::format("{},{},{:.15g},{:.15g},{},{}\n", p + 1, csv_field(curve.name), curve.x[i],
                                    curve.y[i], extra(curve.u, i), extra(curve.v, i));
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
