#include "diffuse/data/png.hpp"
#include "diffuse/plot/sheet.hpp"

#include <fstream>

#include "diffuse/base/file.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

torch::Tensor bytes(torch::IntArrayRef shape) {
    torch::manual_seed(1);
    return torch::randint(0, 256, shape).to(torch::kUInt8);
}

TEST(Png, ReadsBackWhatItWrote) {
    const TemporaryFolder folder;
    for (const int64_t channels : {1, 3}) {
        const auto image = bytes({channels, 5, 9});
        write_png(folder / "a.png", image);
        EXPECT_TRUE(torch::equal(read_png(folder / "a.png"), image));
    }
}

TEST(Png, CarriesTextsThatOtherReadersTakeNoNoticeOf) {
    const TemporaryFolder folder;
    const PngTexts texts = {{"Software", "diffuse"}, {"command", "diffuse sample --out 'ü b.png'"}, {"seed", ""}};
    const auto image = bytes({1, 5, 9});
    write_png(folder / "a.png", image, texts);
    EXPECT_TRUE(torch::equal(read_png(folder / "a.png"), image));
    const PngHead head = read_png_head(folder / "a.png");
    EXPECT_EQ(head.width, 9);
    EXPECT_EQ(head.height, 5);
    EXPECT_EQ(head.texts, texts);
    write_png(folder / "b.png", image);
    EXPECT_TRUE(read_png_head(folder / "b.png").texts.empty());
}

TEST(Png, AFileCutAtAnyByteIsRefused) {
    const TemporaryFolder folder;
    write_png(folder / "a.png", bytes({1, 3, 3}));
    const std::string whole = read_file(folder / "a.png", 10'000);
    const size_t end_chunk = 12;  // IEND holds nothing; an image is whole without it
    for (size_t length = 0; length < whole.size() - end_chunk; ++length) {
        write_file(folder / "b.png", whole.substr(0, length));
        expect_contains(error_of([&] { read_png(folder / "b.png"); }), "not a readable PNG file");
    }
}

TEST(Png, ForeignFilesAreRefused) {
    const TemporaryFolder folder;
    write_file(folder / "a.png", "GIF89a, really");
    expect_contains(error_of([&] { read_png(folder / "a.png"); }), "a.png: not a readable PNG file");
    expect_contains(error_of([&] { read_png(folder / "missing.png"); }), "No such file");
    expect_contains(error_of([&] { read_png(folder.path()); }), "it is not a file");
}

TEST(Tile, PutsImagesInRows) {
    const auto images = bytes({5, 1, 3, 4});
    const auto sheet = tile(images, 3);
    EXPECT_EQ(sheet.sizes(), (torch::IntArrayRef{1, 2 * (3 + 2) + 2, 3 * (4 + 2) + 2}));
    EXPECT_TRUE(torch::equal(sheet.narrow(1, 2, 3).narrow(2, 2, 4), images[0]));
    EXPECT_TRUE(torch::equal(sheet.narrow(1, 7, 3).narrow(2, 8, 4), images[4]));
}

TEST(Sheet, ShowsEachPixelAsSquareOfSharpOnes) {
    const auto images = bytes({2, 1, 3, 4}), plain = tile(images, 2), large = sheet(images, 2, 3);
    EXPECT_EQ(large.sizes(), (torch::IntArrayRef{1, 3 * plain.size(1), 3 * plain.size(2)}));
    for (int64_t offset = 0; offset < 3; ++offset) {
        EXPECT_TRUE(torch::equal(large.slice(1, offset, {}, 3).slice(2, offset, {}, 3), plain));
    }
}

TEST(Sheet, ScalesSmallImagesByTwoUnlessTold) {
    EXPECT_EQ(sheet_scale({}, 28, 28), 2);
    EXPECT_EQ(sheet_scale({}, 28, 64), 1);
    EXPECT_EQ(sheet_scale(5, 28, 28), 5);
}

TEST(Sheet, NamesItsRowsOnTheLeftAndLeavesTheImagesAsTheyAre) {
    const auto a = bytes({3, 1, 28, 28}), b = 255 - a;
    const auto plain = sheet(torch::cat({a, b}), 3, 2), named = captioned_sheet({a, b}, {"first", "i"}, 2);
    const int64_t room = named.size(2) - plain.size(2);
    EXPECT_TRUE(torch::equal(named.narrow(2, room, plain.size(2)), plain));
    const auto ink = [&](int64_t row) {
        return named.narrow(1, row * 60, 60).narrow(2, 0, room).eq(0).sum().item<int64_t>();
    };
    EXPECT_GT(ink(0), 0);
    EXPECT_GT(ink(0), 2 * ink(1)) << "five letters have more ink than one";
}

TEST(Sheet, GoesOnBelowAfterSixteenColumns) {
    const auto a = bytes({20, 1, 8, 8});
    const auto named = captioned_sheet({a, a, a}, {"a", "b", "c"}, 1);
    EXPECT_EQ(named.size(1), 2 + 6 * 10);
    EXPECT_TRUE(torch::equal(
        named.narrow(1, 2 + 3 * 10, 8).slice(2, named.size(2) - 16 * 10, named.size(2) - 16 * 10 + 8), a[16]));
}

TEST(Sheet, RefusesImagesThatNobodyOpens) {
    require_sheet(10'000, 100, 28, 28, 2);
    expect_contains(error_of([] { require_sheet(1'000'000, 1000, 28, 28, 2); }), "60004x60004 pixels");
    expect_contains(error_of([] { require_sheet(INT32_MAX, 1, 28, 28, 64); }), "smaller scale");
}

TEST(Trajectory, IsAnImageOrAMovingOneByItsEnding) {
    const TemporaryFolder folder;
    const auto images = torch::rand({2, 1, 8, 8});
    const std::vector<Frame> frames(30, {images, images});
    write_trajectory(folder / "a.GIF", frames, 2);
    EXPECT_TRUE(read_beginning(folder / "a.GIF", 6) == "GIF89a");
    write_trajectory(folder / "a.png", frames, 1, {{"seed", "3"}});
    const PngHead head = read_png_head(folder / "a.png");
    EXPECT_EQ(head.height, 2 + 4 * 10);  // two rows an image
    EXPECT_GT(head.width, 2 + 12 * 10);  // twelve of the frames, and the names of the rows
    EXPECT_EQ(head.texts, (PngTexts{{"seed", "3"}}));
}

TEST(File, IsReplacedWholeOrNotAtAll) {
    const TemporaryFolder folder;
    write_file(folder / "a", "old");
    EXPECT_THROW(write_file(folder / "a",
                            [](const Put& put) {
                                put("half");
                                throw Error("broken");
                            }),
                 Error);
    EXPECT_EQ(read_file(folder / "a", 100), "old");
    write_file(folder / "a", "new");
    EXPECT_EQ(read_file(folder / "a", 100), "new");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1)
        << "a temporary file was left behind";
}

TEST(File, AMissingFolderIsRefusedBeforeWork) {
    const TemporaryFolder folder;
    expect_contains(error_of([&] { require_writable(folder / "no" / "file"); }), "there is no folder");
    expect_contains(error_of([&] { require_writable(folder.path()); }), "it is a folder");
    require_writable(folder / "file");
}

}  // namespace
}  // namespace diffuse
