#include "diffuse/plot/figure.hpp"

#include <fmt/format.h>

#include <cctype>
#include <regex>
#include <set>

#include "diffuse/base/file.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/plot/points.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

Figure some_figure() {
    const Curve curve{"it's \"one\" $curve", {1, 2, 3}, {0.5, 0.25, 0.125}},
        floor{"floor", {1, 3}, {0.1, 0.1}, Mark::kDashed};
    return {"a title", {{"steps", "error", {curve, floor}}, {"steps", "time", {curve}}}};
}

TEST(Figure, IsASvgWithItsWordsAsTheyAre) {
    const TemporaryFolder folder;
    write_figure(folder / "a.svg", some_figure());
    const std::string svg = read_file(folder / "a.svg", 1 << 20);
    for (const std::string word : {"<svg", "a title", "steps", "error", "time", "floor", "$curve", "</svg>"}) {
        expect_contains(svg, word);
    }
}

TEST(Figure, IsAnImageWithItsPanelsSideBySide) {
    const TemporaryFolder folder;
    write_figure(folder / "a.png", some_figure());
    const PngHead head = read_png_head(folder / "a.png");
    EXPECT_EQ(head.width, 2 * 560);
    EXPECT_EQ(head.height, 440);
}

TEST(Figure, LeavesItsNumbersAndAScriptThatDrawsThemAgain) {
    const TemporaryFolder folder;
    const Curve map{"", {0, 1, 0, 1}, {0, 0, 1, 1}, Mark::kHeat, {1, 2, 3, 4}};
    const Curve arrows{"field, \"s\"", {0, 1}, {0, 1}, Mark::kArrows, {0.1, 0.2}, {0.3, 0.4}};
    save_figure(folder.path(), "b", {"maps", {{"x", "y", {map, arrows}}}});
    EXPECT_EQ(read_file(folder / "b.csv", 1 << 20),
              "panel,curve,x,y,u,v\n1,,0,0,1,\n1,,1,0,2,\n1,,0,1,3,\n1,,1,1,4,\n\n\n"
              "1,\"field, \"\"s\"\"\",0,0,0.1,0.3\n1,\"field, \"\"s\"\"\",1,1,0.2,0.4\n");
    const std::string svg = read_file(folder / "b.svg", 1 << 20);
    std::filesystem::remove(folder / "b.svg");
    ASSERT_EQ(std::system(("cd " + folder.path().string() + " && gnuplot b.gnuplot").c_str()), 0);
    EXPECT_EQ(read_file(folder / "b.svg", 1 << 20), svg);
    EXPECT_TRUE(path_exists(folder / "b.png"));
}

TEST(Figure, ThatCannotBeDrawnIsAnErrorWithGnuplotsWords) {
    const TemporaryFolder folder;
    const double none = std::numeric_limits<double>::quiet_NaN();
    const Figure figure{"", {{"x", "y", {{"nothing", {none}, {none}}}}}};
    const auto kept = folder / "a.svg.gnuplot";
    expect_contains(error_of([&] { write_figure(folder / "a.svg", figure); }),
                    kept.string() + ": gnuplot could not draw it");
    EXPECT_FALSE(path_exists(folder / "a.svg"));
    expect_contains(read_file(kept, 1 << 20), "a.svg.csv");
    EXPECT_TRUE(path_exists(folder / "a.svg.csv"));
}

TEST(Figure, ThatCannotBeDrawnLeavesItsNumbersAndNoImageOfAnEarlierOne) {
    const TemporaryFolder folder;
    save_figure(folder.path(), "a", some_figure());
    const double none = std::numeric_limits<double>::quiet_NaN();
    expect_contains(error_of([&] {
                        save_figure(folder.path(), "a", {"", {{"x", "y", {{"nothing", {none}, {none}}}}}});
                    }),
                    (folder / "a.gnuplot").string());
    EXPECT_FALSE(path_exists(folder / "a.svg") || path_exists(folder / "a.png"));
    EXPECT_TRUE(path_exists(folder / "a.csv") && path_exists(folder / "a.gnuplot"));
}

TEST(Figure, HasErrorBars) {
    const TemporaryFolder folder;
    const Curve curve{"measured", {1, 2}, {3, 4}, Mark::kErrors, {0.5, 0.25}};
    save_figure(folder.path(), "e", {"", {{"x", "y", {curve}}}});
    expect_contains(read_file(folder / "e.gnuplot", 1 << 20), "3:4:5 with yerrorlines");
    EXPECT_TRUE(path_exists(folder / "e.svg"));
}

/// The texts that gnuplot writes into the image of a panel, of those that are centred.
std::vector<std::string> texts_of(const Panel& panel) {
    const TemporaryFolder folder;
    write_figure(folder / "a.svg", {"", {panel}});
    const std::string svg = read_file(folder / "a.svg", 1 << 24);
    const std::regex text("text-anchor=\"middle\">\\s*<text>(?:<tspan[^>]*>)?([^<]*)");
    std::vector<std::string> texts;
    for (std::sregex_iterator i(svg.begin(), svg.end(), text), end; i != end; ++i) texts.push_back((*i)[1]);
    return texts;
}

/// Those under the axis of x.
std::vector<std::string> x_labels_of(const Panel& panel) {
    auto labels = texts_of(panel);
    std::erase_if(labels, [](const auto& text) { return text.empty() || !(std::isdigit(text[0]) || text[0] == '-'); });
    return labels;
}

Curve with_errors(const std::string& name) { return {name, {1, 2}, {3, 4}, Mark::kErrors, {0.5, 0.25}}; }

TEST(Figure, JoinsPointsWithErrorBarsInTheOrderOfX) {
    const Curve curve{"c", {10, 0.1, 1}, {1, 2, 3}, Mark::kErrors, {4, 5, 6}};
    EXPECT_EQ(figure_csv({"", {{"x", "y", {curve}}}}), "panel,curve,x,y,u,v\n1,c,0.1,2,5,\n1,c,1,3,6,\n1,c,10,1,4,\n");
}

TEST(Figure, TellsTwelveCurvesApartAndGrowsWithTheirLegend) {
    const TemporaryFolder folder;
    Panel panel{"x", "y", {}};
    for (int i = 0; i < 12; ++i)
        panel.curves.push_back(with_errors(fmt::format("a name of some forty letters in all, {}", i)));
    save_figure(folder.path(), "a", {"", {panel}});
    EXPECT_EQ(read_png_head(folder / "a.png").height, 440 + 10 * 24);  // all rows but two
    const std::string svg = read_file(folder / "a.svg", 1 << 24);
    const std::regex look("stroke='(#|rgb)[^']*'|stroke-dasharray='[^']*'");
    std::set<std::string> looks;
    for (size_t at = 0; (at = svg.find("<title>a name", at)) != std::string::npos; ++at) {
        const std::string curve = svg.substr(at, svg.find("<title>", at + 1) - at);
        std::string all;
        for (std::sregex_iterator i(curve.begin(), curve.end(), look), end; i != end; ++i) all += i->str();
        looks.insert(all);
    }
    EXPECT_EQ(looks.size(), 12u);
    EXPECT_NE(svg.find("<text>a name"), std::string::npos) << "there is no legend";
}

TEST(Figure, LabelsLogarithmicAxesWithAtLeastThreeTicksAndManyDecadesWithPowers) {
    EXPECT_EQ(x_labels_of({"x", "y", {{"", {1 / 64.0, 0.1, 0.5}, {1, 2, 3}}}, "", /*log_x=*/true}).size(), 5u);
    const auto powers = texts_of({"x", "y", {{"", {1e-4, 1, 1e4}, {1, 2, 3}}}, "", /*log_x=*/true});
    EXPECT_GE(std::ranges::count(powers, "10"), 5);
    EXPECT_EQ(std::ranges::count(powers, "0.001"), 0);
}

// Between the first tick and the last there are about 400 pixels, and a digit takes 13.
TEST(Figure, LabelsOfTicksDifferAndFitBesideOneAnother) {
    for (const double origin : {0.0, 0.55, 1.7e9, 999999.2, -123456.0}) {
        for (const double width : {0.1, 1.0, 1.7, 3e5, 1e300}) {
            const auto labels =
                x_labels_of({"x", "y", {{"", {origin, origin + width, origin + width / 2}, {1, 1, 1}}}});
            size_t longest = 0;
            for (const auto& label : labels) longest = std::max(longest, label.size());
            EXPECT_LE((labels.size() - 1) * (2 * longest + 1), 2 * 400u / 13) << origin << " " << width;
            EXPECT_GE(labels.size(), 2u) << origin << " " << width;
            EXPECT_EQ(std::set<std::string>(labels.begin(), labels.end()).size(), labels.size()) << origin;
        }
    }
}

TEST(Figure, CutsLongNamesOfAxes) {
    const auto texts = texts_of({std::string(300, 'w'), "y", {with_errors("")}});
    EXPECT_EQ(std::ranges::count(texts, std::string(29, 'w') + "…"), 1);
}

TEST(Points, HaveEqualAxesWhereBothColumnsAreLengthsOfOneKind) {
    const auto equal = [](double width, const std::string& name) {
        const auto x = torch::linspace(0, 1, 50, torch::kFloat64);
        return point_panels(torch::stack({x, width * x}, 1), {"x", name}, PointStyle::kScatter)[0].equal_axes;
    };
    EXPECT_TRUE(equal(2.5, "y") && equal(0.4, "y"));
    EXPECT_FALSE(equal(4, "y") || equal(0.2, "y") || equal(1e300, "y") || equal(0, "y") || equal(1, "price"));
}

TEST(Points, SayWhichColumnsOfHowManyAreShown) {
    const std::vector<std::string> names(300, "c");
    const auto panels = point_panels(torch::rand({10, 300}, torch::kFloat64), names, PointStyle::kScatter);
    ASSERT_EQ(panels.size(), 4u);
    EXPECT_EQ(panels[3].title, "columns 4 and 5 of 300");
    EXPECT_EQ(point_panels(torch::rand({10, 5}, torch::kFloat64), names, PointStyle::kScatter)[3].title, "");
}

TEST(Points, OfOneValueHaveOneLabel) {
    const auto panel = point_panels(torch::full({1, 1}, 0.123456, torch::kFloat64), {"c"}, PointStyle::kScatter)[0];
    EXPECT_EQ(x_labels_of(panel), std::vector<std::string>{"0.123456"});
}

}  // namespace
}  // namespace diffuse
