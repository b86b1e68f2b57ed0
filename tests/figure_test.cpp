#include "diffuse/plot/figure.hpp"

#include "diffuse/base/file.hpp"
#include "diffuse/data/png.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

Figure some_figure() {
    const Curve curve{"it's \"one\" $curve", {1, 2, 3}, {0.5, 0.25, 0.125}}, floor{"floor", {1, 3}, {0.1, 0.1}, true};
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

TEST(Figure, IsAPictureWithItsPanelsSideBySide) {
    const TemporaryFolder folder;
    write_figure(folder / "a.png", some_figure());
    const PngHead head = read_png_head(folder / "a.png");
    EXPECT_EQ(head.width, 2 * 480);
    EXPECT_EQ(head.height, 400);
}

TEST(Figure, ThatCannotBeDrawnIsAnErrorWithGnuplotsWords) {
    const TemporaryFolder folder;
    const double none = std::numeric_limits<double>::quiet_NaN();
    const Figure figure{"", {{"x", "y", {{"nothing", {none}, {none}}}}}};
    expect_contains(error_of([&] { write_figure(folder / "a.svg", figure); }), "gnuplot could not draw it");
    EXPECT_FALSE(path_exists(folder / "a.svg"));
}

}  // namespace
}  // namespace diffuse
