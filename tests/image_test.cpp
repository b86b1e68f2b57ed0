#include "diffuse/plot/png.hpp"
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

TEST(Png, AFileCutAtAnyByteIsRefused) {
    const TemporaryFolder folder;
    write_png(folder / "a.png", bytes({1, 3, 3}));
    const std::string whole = read_file(folder / "a.png", 10'000);
    const size_t end_chunk = 12;  // IEND holds nothing; a picture is whole without it
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

TEST(Png, GreyInRgbIsTakenAsGreyAndColourIsRefused) {
    const auto grey = bytes({1, 4, 4});
    EXPECT_TRUE(torch::equal(to_grey(grey.expand({3, 4, 4}), "a"), grey));
    expect_contains(error_of([&] { to_grey(bytes({3, 4, 4}), "a"); }), "is in colour");
    const auto opaque = torch::full({1, 4, 4}, 255, torch::kUInt8);
    EXPECT_TRUE(torch::equal(to_grey(torch::cat({grey, opaque}), "a"), grey));
    EXPECT_TRUE(torch::equal(to_grey(torch::cat({grey, grey, grey, opaque}), "a"), grey));
    expect_contains(error_of([&] { to_grey(torch::cat({grey, opaque - 1}), "a"); }), "a: has transparent pixels");
}

TEST(Tile, PutsImagesInRows) {
    const auto images = bytes({5, 1, 3, 4});
    const auto sheet = tile(images, 3);
    EXPECT_EQ(sheet.sizes(), (torch::IntArrayRef{1, 2 * (3 + 2) + 2, 3 * (4 + 2) + 2}));
    EXPECT_TRUE(torch::equal(sheet.narrow(1, 2, 3).narrow(2, 2, 4), images[0]));
    EXPECT_TRUE(torch::equal(sheet.narrow(1, 7, 3).narrow(2, 8, 4), images[4]));
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
