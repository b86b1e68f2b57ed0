#include "diffuse/lab/report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <sstream>

#include "diffuse/base/file.hpp"
#include "diffuse/plot/html.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse {
namespace {

constexpr uintmax_t kMaxBytes = 64 << 20;
constexpr const char* kTitle = "diffuse lab: experiments with diffusion, each checked against its formula";
constexpr const char* kTolerances =
    "A tolerance is that of rounding or of the scheme's next term, as the source says, or four standard errors (s.e.) "
    "of what was drawn.";

const Experiment& experiment_of(const Outcome& outcome) { return look_up("experiment", experiments(), outcome.name); }

/// The number of letters, of which some take several bytes.
size_t width(const std::string& text) {
    return size_t(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string tolerance_text(const Check& check) {
    return fmt::format("{:.2g}{}", check.tolerance, check.is_random ? " (4 s.e.)" : "");
}

std::string file_name(const std::string& experiment, const Exhibit& exhibit) { return experiment + "-" + exhibit.name; }

nlohmann::ordered_json number(double x) {
    return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json();
}

/// "12 checks, all hold"
std::string summary(const std::vector<Check>& checks) {
    const auto failed = std::ranges::count(checks, false, &Check::holds);
    return fmt::format("{} checks, {}", checks.size(),
                       failed == 0 ? "all hold" : fmt::format("{} of which FAILED", failed));
}

/// "In the code: `src/lab/heat.cpp`. Done with `nodes=64`, `ratio=0.4`, `--seed 0`."
std::string origin_text(const Outcome& outcome) {
    std::string settings;
    for (const auto& [key, value] : outcome.findings.settings.items())
        settings += fmt::format("`{}={}`, ", key, value.dump());
    return fmt::format("In the code: `{}`. Done with {}`--seed {}`.", fmt::join(experiment_of(outcome).code, "`, `"),
                       settings, outcome.seed);
}

/// A paragraph's words in backticks as code.
std::string with_code(const std::string& text) {
    std::string result;
    bool inside = false;
    for (const char c : html_text(text)) {
        if (c == '`') inside = !inside;
        result += c != '`' ? std::string(1, c) : inside ? "<code>" : "</code>";
    }
    return result;
}

std::string html_table(const std::vector<Check>& checks) {
    std::string text =
        "<div "
        "class=\"wide\"><table>\n<tr><th></th><th>what</th><th>measured</th><th>expected</th><th>error</"
        "th><th>tolerance</th><th>source of what is expected</th></tr>\n";
    for (const auto& check : checks) {
        text += fmt::format(
            "<tr><td class=\"{}\">{}</td><td>{}</td><td class=\"number\">{:.6g}</td><td class=\"number\">{:.6g}</td>"
            "<td class=\"number\">{:.1e}</td><td class=\"number\">{}</td><td>{}</td></tr>\n",
            check.holds() ? "good" : "bad", check.holds() ? "holds" : "FAILS", html_text(check.what), check.measured,
            check.expected, check.error(), tolerance_text(check), html_text(check.source));
    }
    return text + "</table></div>\n";
}

/// Each row as `of_row` has its cells, one after the other.
std::string rows_text(const Cells& cells, const std::function<std::string(const std::vector<std::string>&)>& of_row) {
    std::string text;
    for (const auto& row : cells) text += of_row(row) + "\n";
    return text;
}

std::string csv_cells(const Cells& cells) {
    return rows_text(cells, [](const auto& row) { return fmt::format("\"{}\"", fmt::join(row, "\",\"")); });
}

std::string html_cells(const Cells& cells) {
    const auto row_text = [](const auto& row) {
        std::string text = "<tr>";
        for (const auto& cell : row) text += fmt::format("<td class=\"number\">{}</td>", html_text(cell));
        return text + "</tr>";
    };
    return fmt::format("<div class=\"wide\"><table>\n{}</table></div>\n", rows_text(cells, row_text));
}

std::string markdown_cells(Cells cells) {
    cells.insert(cells.begin() + 1, std::vector<std::string>(cells.front().size(), "---"));
    return rows_text(cells, [](const auto& row) { return fmt::format("| {} |", fmt::join(row, " | ")); });
}

/// In columns, each as wide as its widest cell.
std::string plain_cells(const Cells& cells) {
    std::vector<size_t> widths(cells.front().size());
    for (const auto& row : cells) {
        for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
    }
    return rows_text(cells, [&](const auto& row) {
        std::string text = "      ";
        for (size_t i = 0; i < row.size(); ++i) {
            text += i == 0 ? fmt::format("  {:<{}}", row[i], widths[i]) : fmt::format("  {:>{}}", row[i], widths[i]);
        }
        return text;
    });
}

std::string html_exhibit(const std::string& experiment, const Exhibit& exhibit, const std::filesystem::path& folder) {
    if (!exhibit.cells.empty())
        return fmt::format("<p>{}</p>\n{}", html_text(exhibit.caption), html_cells(exhibit.cells));
    const bool is_sheet = exhibit.sheet.images.defined();
    const auto file = folder / (file_name(experiment, exhibit) + (is_sheet ? ".png" : ".svg"));
    const std::string caption = html_text(exhibit.caption);
    if (!path_exists(file)) {
        return fmt::format("<p>{} (no image: {}; the numbers are in {}.csv)</p>\n", caption,
                           has_gnuplot() ? "it could not be drawn" : "gnuplot is not installed",
                           html_text(file_name(experiment, exhibit)));
    }
    return fmt::format(
        "<figure><div class=\"wide\"><img{} alt=\"{}\" src=\"{}\"></div><figcaption>{}</figcaption></figure>\n",
        is_sheet ? " class=\"pixels\"" : "",
        html_text(exhibit.figure.title.empty() ? exhibit.caption : exhibit.figure.title),
        data_address(is_sheet ? "image/png" : "image/svg+xml", read_file(file, kMaxBytes)), caption);
}

std::string html_section(const Outcome& outcome, const std::filesystem::path& folder) {
    const Experiment& experiment = experiment_of(outcome);
    std::string text =
        fmt::format("<h2 id=\"{0}\">{0}</h2>\n<p><em>{1}</em></p>\n", outcome.name, html_text(experiment.about));
    for (const auto& paragraph : experiment.story) text += fmt::format("<p>{}</p>\n", with_code(paragraph));
    for (const auto& exhibit : outcome.findings.exhibits) text += html_exhibit(outcome.name, exhibit, folder);
    text += html_table(outcome.findings.checks);
    return text + fmt::format("<p>{}. {}</p>\n", summary(outcome.findings.checks), with_code(origin_text(outcome)));
}

/// A paragraph on lines of at most 118 columns.
std::string wrapped(const std::string& paragraph) {
    std::string text, line;
    std::istringstream words(paragraph);
    for (std::string word; words >> word;) {
        if (!line.empty() && width(line) + 1 + width(word) > 118) {
            text += line + "\n";
            line.clear();
        }
        line += line.empty() ? word : " " + word;
    }
    return text + line + "\n";
}

/// A text within a table of Markdown.
std::string cell(const std::string& text) {
    std::string result;
    for (const char c : text) result += c == '|' ? std::string("\\|") : std::string(1, c);
    return result;
}

std::string markdown_section(const Outcome& outcome) {
    const Experiment& experiment = experiment_of(outcome);
    std::string text = fmt::format("## {}\n\n", outcome.name);
    for (const auto& paragraph : experiment.story) text += wrapped(paragraph) + "\n";
    text += wrapped(origin_text(outcome)) + "\n";
    for (const auto& setting : experiment.settings) {
        text += wrapped(fmt::format("* `{}`: {} ({})", setting.key, setting.meaning, expected(setting)));
    }
    text += "\n| what | measured | expected | tolerance | source |\n|---|---|---|---|---|\n";
    for (const auto& check : outcome.findings.checks) {
        text += fmt::format("| {} | {:.6g} | {:.6g} | {} | {} |\n", cell(check.what), check.measured, check.expected,
                            tolerance_text(check), cell(check.source));
    }
    for (const auto& exhibit : outcome.findings.exhibits) {
        if (exhibit.cells.empty()) continue;
        text += fmt::format("\n{}\n{}", wrapped(exhibit.caption), markdown_cells(exhibit.cells));
    }
    return text;
}

/// Returns the endings of the files that it writes.
std::set<std::string> save_exhibit(const std::filesystem::path& folder, const std::string& name,
                                   const Exhibit& exhibit) {
    if (const auto& images = exhibit.sheet.images; images.defined()) {
        const int64_t scale = sheet_scale({}, images.size(2), images.size(3));
        write_png(folder / (name + ".png"), sheet(images, exhibit.sheet.columns, scale));
        return {".png"};
    }
    if (!exhibit.cells.empty()) {
        write_file(folder / (name + ".csv"), csv_cells(exhibit.cells));
        return {".csv"};
    }
    save_figure(folder, name, exhibit.figure);
    if (!has_gnuplot()) return {".csv", ".gnuplot"};
    return {".svg", ".png", ".csv", ".gnuplot"};
}

}  // namespace

void save_exhibits(const std::filesystem::path& folder, Outcome& outcome) {
    for (const auto& exhibit : outcome.findings.exhibits) {
        const std::string name = file_name(outcome.name, exhibit);
        std::set<std::string> written;
        try {
            written = save_exhibit(folder, name, exhibit);
        } catch (const Error& error) {
            if (outcome.problem.empty()) outcome.problem = error.what();
            if (!exhibit.sheet.images.defined()) written = {".csv", ".gnuplot"};
        }
        for (const std::string ending : {".svg", ".png", ".csv", ".gnuplot"}) {
            const auto file = folder / (name + ending);
            if (written.contains(ending) && path_exists(file)) outcome.files.push_back(display_path(file));
        }
    }
}

nlohmann::ordered_json to_json(const Outcome& outcome) {
    nlohmann::ordered_json json = {{"name", outcome.name},
                                   {"about", experiment_of(outcome).about},
                                   {"settings", outcome.findings.settings},
                                   {"seed", outcome.seed},
                                   {"seconds", outcome.seconds},
                                   {"checks", nlohmann::ordered_json::array()}};
    for (const auto& check : outcome.findings.checks) {
        json["checks"].push_back({{"what", check.what},
                                  {"measured", number(check.measured)},
                                  {"expected", number(check.expected)},
                                  {"error", number(check.error())},
                                  {"tolerance", number(check.tolerance)},
                                  {"source", check.source},
                                  {"random", check.is_random},
                                  {"holds", check.holds()}});
    }
    json["files"] = outcome.files;
    return json;
}

std::string to_table(const Outcome& outcome) {
    size_t columns = 4;
    for (const auto& check : outcome.findings.checks) columns = std::max(columns, width(check.what));
    std::string text = fmt::format("{}: {}, {:.1f} s\n       {:<{}}  {:>12}  {:>12}  {:>8}  {:<18}  {}\n", outcome.name,
                                   summary(outcome.findings.checks), outcome.seconds, "what", columns, "measured",
                                   "expected", "error", "tolerance", "source");
    for (const auto& check : outcome.findings.checks) {
        text += fmt::format("{}  {:<{}}  {:>12.6g}  {:>12.6g}  {:>8.1e}  {:<18}  {}\n",
                            check.holds() ? "holds" : "FAILS", check.what, columns, check.measured, check.expected,
                            check.error(), tolerance_text(check), check.source);
    }
    for (const auto& exhibit : outcome.findings.exhibits) {
        if (!exhibit.cells.empty()) text += fmt::format("{}\n{}", exhibit.caption, plain_cells(exhibit.cells));
    }
    return text;
}

std::string to_markdown(const std::vector<Outcome>& outcomes) {
    std::string text = "# The lab\n\n";
    text += wrapped(fmt::format(
        "Written by `diffuse lab --markdown`: what each experiment measures, beside what a formula, a quadrature, a "
        "publication or a second method says. {}",
        kTolerances));
    for (const auto& outcome : outcomes) text += fmt::format("\n{}", markdown_section(outcome));
    return text;
}

std::string to_html(const std::vector<Outcome>& outcomes, const std::filesystem::path& folder) {
    std::vector<Check> all;
    std::string contents, sections;
    for (const auto& outcome : outcomes) {
        const auto& checks = outcome.findings.checks;
        all.insert(all.end(), checks.begin(), checks.end());
        contents += fmt::format("<li><a href=\"#{0}\">{0}</a>: {1}; {2}</li>\n", outcome.name,
                                html_text(experiment_of(outcome).about), summary(checks));
        sections += html_section(outcome, folder);
    }
    return html_page(
        "diffuse lab",
        fmt::format("<h1>{}</h1>\n<p>{}. {} Where a line and points have one colour, the line is the formula and what "
                    "was measured is points.</p>\n<ul>\n{}</ul>\n{}",
                    html_text(kTitle), summary(all), kTolerances, contents, sections));
}

}  // namespace diffuse
