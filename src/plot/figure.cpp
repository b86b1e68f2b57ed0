#include "diffuse/plot/figure.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"

namespace diffuse {
namespace {

constexpr int kPanelWidth = 480, kPanelHeight = 400;
constexpr uintmax_t kMaxBytes = 64 << 20;

/// A text as gnuplot reads it.
std::string quoted(const std::string& text) {
    std::string result = "'";
    for (const char c : text) result += c == '\'' ? std::string("''") : std::string(1, c == '\n' ? ' ' : c);
    return result + "'";
}

std::string data_block(const std::string& name, const Curve& curve) {
    std::string block = name + " << END\n";
    for (size_t i = 0; i < curve.x.size(); ++i) block += fmt::format("{} {}\n", curve.x[i], curve.y[i]);
    return block + "END\n";
}

std::string panel_script(const Panel& panel) {
    std::string script;
    std::vector<std::string> curves;
    for (size_t i = 0; i < panel.curves.size(); ++i) {
        const std::string name = fmt::format("$curve{}", i);
        script += data_block(name, panel.curves[i]);
        curves.push_back(fmt::format("{} with {} linewidth 2 title {}", name,
                                     panel.curves[i].dashed ? "lines dashtype 2" : "linespoints pointtype 7",
                                     quoted(panel.curves[i].name)));
    }
    script += fmt::format("set xlabel {}\nset ylabel {}\n", quoted(panel.x_label), quoted(panel.y_label));
    return script + fmt::format("plot {}\n", fmt::join(curves, ", "));
}

std::string figure_script(const Figure& figure, bool svg, const std::string& output) {
    std::string script = fmt::format(
        "set terminal {} noenhanced size {},{} font 'Helvetica,12' background rgb 'white'\n"
        "set output {}\n"
        "set grid linecolor rgb '#dddddd'\nset offsets graph 0.03, graph 0.03, graph 0.03, graph 0.03\n"
        "set key below\nset multiplot layout 1,{} title {}\n",
        svg ? "svg" : "pngcairo", kPanelWidth * figure.panels.size(), kPanelHeight, quoted(output),
        figure.panels.size(), quoted(figure.title));
    for (const auto& panel : figure.panels) script += panel_script(panel);
    return script + "unset multiplot\n";
}

}  // namespace

void require_gnuplot() {
    if (std::system("command -v gnuplot >/dev/null 2>&1") == 0) return;
    throw Error("plots are drawn by gnuplot, which is not there; install it (Debian: apt-get install gnuplot-nox)");
}

void write_figure(const std::filesystem::path& path, const Figure& figure) {
    const TemporaryFolder folder;
    const auto script = folder / "script", output = folder / "output", said = folder / "said";
    write_file(script, figure_script(figure, file_ending(path) == ".svg", output.string()));
    const std::string command =
        fmt::format("gnuplot {} >{} 2>&1", shell_word(script.string()), shell_word(said.string()));
    if (std::system(command.c_str()) != 0) {
        throw Error(fmt::format("{}: gnuplot could not draw it: {}", path.string(), read_file(said, kMaxBytes)),
                    kRunFailed);
    }
    write_file(path, read_file(output, kMaxBytes));
}

}  // namespace diffuse
