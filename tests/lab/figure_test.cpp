#include "diffuse/plot/figure.hpp"

#include "diffuse/base/file.hpp"
#include "diffuse/data/png.hpp"
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

}  // namespace
}  // namespace diffuse
