#include "diffuse/data/image.hpp"

#include <turbojpeg.h>
#include <zlib.h>

#include <cstdlib>
#include <memory>

#include "diffuse/base/file.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/data/jpeg.hpp"
#include "diffuse/data/png.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

torch::Tensor some_bytes(torch::IntArrayRef shape, uint64_t seed = 1) {
    torch::manual_seed(seed);
    return torch::randint(0, 256, shape).to(torch::kUInt8);
}

/// An image without sharp edges, which JPEG keeps to a few grey values: red grows to the right, green downwards.
torch::Tensor gradient(int64_t height, int64_t width) {
    const auto across = torch::linspace(20, 230, width).view({1, 1, width}).expand({1, height, width});
    const auto down = torch::linspace(230, 20, height).view({1, height, 1}).expand({1, height, width});
    return torch::cat({across, down, torch::full({1, height, width}, 100.0)}).round().to(torch::kUInt8);
}

/// A JPEG file of [C, H, W], C 1, 3, or 4 for CMYK, at the best quality.
std::string jpeg_of(const torch::Tensor& image) {
    const auto rows = image.permute({1, 2, 0}).contiguous();
    const int channels = int(rows.size(2));
    const std::unique_ptr<void, int (*)(tjhandle)> coder(tjInitCompress(), tjDestroy);
    unsigned char* bytes = nullptr;
    unsigned long size = 0;
    const int format = channels == 1 ? TJPF_GRAY : channels == 3 ? TJPF_RGB : TJPF_CMYK;
    const int failed = tjCompress2(coder.get(), rows.data_ptr<uint8_t>(), int(rows.size(1)), 0, int(rows.size(0)),
                                   format, &bytes, &size, channels == 1 ? TJSAMP_GRAY : TJSAMP_444, 100, 0);
    EXPECT_EQ(failed, 0);
    std::string result(reinterpret_cast<char*>(bytes), size);
    tjFree(bytes);
    return result;
}

/// Exif data with nothing but the tag of orientation (Exif 2.3, section 4.6.2), big-endian.
std::string exif_of(int orientation) {
    using namespace std::string_literals;
    return "MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"s + std::string(1, char(orientation)) + "\0\0\0\0\0\0"s;
}

/// With Exif data behind a comment, which some programs put first.
std::string with_orientation(const std::string& jpeg, int orientation) {
    const auto segment = [](char marker, const std::string& body) {
        const size_t length = body.size() + 2;
        return std::string("\xff") + marker + char(length >> 8) + char(length & 255) + body;
    };
    return jpeg.substr(0, 2) + segment('\xfe', "a comment") +
           segment('\xe1', std::string("Exif\0\0", 6) + exif_of(orientation)) + jpeg.substr(2);
}

double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
    return (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

/// Labels as a network of other classes has them.
torch::Tensor renumbered(const Dataset& dataset, const Classes& known) {
    return ConditionSpec{.classes = known}.renumbered(dataset.condition.classes, dataset.spec.condition.classes);
}

TEST(Image, IsUprightForEveryOrientation) {
    const auto seen = torch::tensor({1, 2, 3, 4, 5, 6}, torch::kUInt8).view({1, 2, 3});
    // How a camera that was held otherwise stores what is seen (Exif 2.3: where row 0 and column 0 of it are seen).
    const std::vector<torch::Tensor> stored = {seen,
                                               seen.flip(2),
                                               seen.flip({1, 2}),
                                               seen.flip(1),
                                               seen.transpose(1, 2),
                                               seen.rot90(1, {1, 2}),
                                               seen.flip({1, 2}).transpose(1, 2),
                                               seen.rot90(-1, {1, 2})};
    for (int orientation = 1; orientation <= 8; ++orientation) {
        EXPECT_TRUE(torch::equal(upright(stored[size_t(orientation - 1)], orientation), seen)) << orientation;
    }
}

TEST(Image, OrientationTagsOfJpegAndPngFilesAreObeyed) {
    const auto stored = gradient(16, 24);
    const std::string jpeg = jpeg_of(stored);
    for (int orientation = 1; orientation <= 8; ++orientation) {
        const auto expected = upright(stored, orientation);
        const std::string bytes = with_orientation(jpeg, orientation);
        const auto head = image_head(bytes, "a");
        EXPECT_EQ(head.format, "JPEG");
        EXPECT_EQ(head.height, expected.size(1));
        EXPECT_EQ(head.width, expected.size(2));
        // 4 grey values: what quality 100 may lose on a gradient by rounding colours and coefficients
        EXPECT_LE(largest_difference(decode_image(bytes, "a"), expected), 4) << orientation;
    }
    const TemporaryFolder folder;
    write_png(folder / "a.png", stored);
    std::string png = read_file(folder / "a.png", 1 << 20);
    const std::string body = "eXIf" + exif_of(6);
    const auto number = [](uint32_t n) { return std::string{char(n >> 24), char(n >> 16), char(n >> 8), char(n)}; };
    const auto crc = uint32_t(crc32_z(0, reinterpret_cast<const uint8_t*>(body.data()), body.size()));
    png.insert(33, number(uint32_t(body.size() - 4)) + body + number(crc));
    EXPECT_TRUE(torch::equal(decode_image(png, "a"), upright(stored, 6)));
}

TEST(Image, JpegThatIsCutDamagedOrInCmykIsRefusedByName) {
    const std::string whole = jpeg_of(gradient(32, 32));
    expect_contains(error_of([&] { decode_image(whole.substr(0, whole.size() / 2), "a.jpg"); }),
                    "a.jpg: not a readable");
    expect_contains(error_of([&] { decode_image(whole.substr(0, 20), "a.jpg"); }), "a.jpg: not a readable JPEG file");
    expect_contains(error_of([&] { image_head(jpeg_of(some_bytes({4, 8, 8})), "a.jpg"); }), "a.jpg: is in CMYK");
    expect_contains(error_of([&] { image_head("GIF89a", "a.jpg"); }), "a.jpg: neither a PNG nor a JPEG file");
}

TEST(Image, GreyInRgbIsGreyAndTransparencyNeedsABackground) {
    const auto grey = some_bytes({1, 4, 4});
    const ImageRule one{.channels = 1}, three{.channels = 3};
    EXPECT_TRUE(torch::equal(with_channels(grey.expand({3, 4, 4}), one, "a"), grey));
    EXPECT_TRUE(torch::equal(with_channels(grey, three, "a"), grey.expand({3, 4, 4})));
    const auto opaque = torch::full({1, 4, 4}, 255, torch::kUInt8);
    EXPECT_TRUE(torch::equal(with_channels(torch::cat({grey, opaque}), one, "a"), grey));
    EXPECT_TRUE(torch::equal(with_channels(torch::cat({grey, grey, grey, opaque}), one, "a"), grey));
    const auto clear = torch::cat({grey, torch::zeros_like(opaque)});
    expect_contains(error_of([&] { with_channels(clear, one, "a"); }), "a: has transparent pixels");
    const ImageRule on_red{.channels = 3, .background = parse_colour("#ff0080")};
    EXPECT_TRUE(torch::equal(with_channels(clear, on_red, "a").select(2, 0).select(1, 0),
                             torch::tensor({255, 0, 128}, torch::kUInt8)));
    const auto green = torch::tensor({0, 255, 0}, torch::kUInt8).view({3, 1, 1});
    EXPECT_EQ(with_channels(green, one, "a").item<uint8_t>(), 150);  // 0.587 * 255 = 149.7
    expect_contains(error_of([] { parse_colour("reddish"); }), "expected black, white or #rrggbb");
}

TEST(Image, IsCroppedAroundTheMiddleAndAveraged) {
    const auto image = some_bytes({3, 8, 12});
    const auto middle = image.narrow(2, 2, 8).to(torch::kFloat64);
    const auto means = middle.view({3, 4, 2, 4, 2}).mean({2, 4});
    EXPECT_LE(largest_difference(fitted(image, 4, 4), means), 0.5);  // rounding
    EXPECT_TRUE(torch::equal(fitted(image, 8, 12), image));
    EXPECT_TRUE(torch::equal(fitted(torch::full({1, 7, 5}, 99, torch::kUInt8), 3, 2),
                             torch::full({1, 3, 2}, 99, torch::kUInt8)));
    // enlarged by a whole number: each pixel again and again
    EXPECT_TRUE(torch::equal(fitted(image, 16, 24), image.repeat_interleave(2, 1).repeat_interleave(2, 2)));
    // 3 pixels become 2: each takes one and a half
    const auto three = torch::tensor({0, 90, 240}, torch::kUInt8).view({1, 1, 3});
    EXPECT_TRUE(torch::equal(fitted(three.expand({1, 2, 3}).contiguous(), 2, 3), three.expand({1, 2, 3})));
    EXPECT_TRUE(torch::equal(fitted(three.expand({1, 3, 3}).contiguous(), 2, 2).flatten(),
                             torch::tensor({30, 190, 30, 190}, torch::kUInt8)));
}

/// A folder of images that a test fills, with a cache of its own.
struct ImageFolder : ::testing::Test {
    void SetUp() override {
        setenv("XDG_CACHE_HOME", (cache / "x").c_str(), 1);
        options.kind = "images";
        options.dir = folder.path();
        options.test_share = 0;
    }
    void TearDown() override { unsetenv("XDG_CACHE_HOME"); }
    void put(const std::string& name, const torch::Tensor& image) {
        std::filesystem::create_directories((folder / name).parent_path());
        write_png(folder / name, image);
    }
    Dataset load(Split split = Split::kTrain) const { return load_dataset(options, split); }
    std::string error() const {
        return error_of([&] { load(); });
    }
    TemporaryFolder folder, cache;
    DatasetOptions options;
};

/// Whether a data set has an image.
bool has(const Dataset& dataset, const torch::Tensor& image) {
    return dataset.examples.eq(image).flatten(1).all(1).any().item<bool>();
}

TEST_F(ImageFolder, IsReadByContentAndGreyStaysGrey) {
    const auto a = some_bytes({1, 6, 8}, 1), b = some_bytes({1, 6, 8}, 2);
    put("b.PNG", b.expand({3, 6, 8}));
    put("a.jpg", a);  // a PNG file whose name lies
    write_file(folder / ".hidden", "no image");
    const Dataset dataset = load();
    EXPECT_EQ(to_string(dataset.spec.shape), "1x6x8");
    EXPECT_EQ(dataset.size(), 2);
    EXPECT_TRUE(has(dataset, a) && has(dataset, b));
    EXPECT_FALSE(dataset.condition.classes.defined());
    expect_contains(dataset.spec.about, "2 PNG files, grey");
    put("c.png", some_bytes({3, 6, 8}));
    EXPECT_EQ(load().examples.size(1), 3);
    options.channels = 1;
    EXPECT_EQ(load().examples.size(1), 1);
}

TEST_F(ImageFolder, HasAClassForEachSubfolder) {
    const auto dog = some_bytes({1, 4, 4}, 1), cat = some_bytes({1, 4, 4}, 2);
    put("dog/x/1.png", dog);
    put("elsewhere/2.png", cat);
    std::filesystem::create_directory(folder / "cat");
    std::filesystem::create_symlink(folder / "elsewhere/2.png", folder / "cat/2.png");
    std::filesystem::create_directory_symlink(folder.path(), folder / "cat/up");  // does not go round and round
    std::filesystem::rename(folder / "elsewhere", cache / "elsewhere");
    std::filesystem::remove(folder / "cat/2.png");
    std::filesystem::create_symlink(cache / "elsewhere/2.png", folder / "cat/2.png");
    const Dataset dataset = load();
    EXPECT_EQ(dataset.spec.condition.classes.names, (std::vector<std::string>{"cat", "dog"}));
    ASSERT_EQ(dataset.size(), 2);
    for (int64_t i = 0; i < 2; ++i) {
        EXPECT_TRUE(torch::equal(dataset.examples[i], dataset.condition.classes[i].item<int64_t>() == 1 ? dog : cat));
    }
    // another set's numbers, by the names of the classes
    EXPECT_TRUE(torch::equal(renumbered(dataset, {3, {"bird", "cat", "dog"}}), dataset.condition.classes + 1));
    EXPECT_TRUE(torch::equal(renumbered(dataset, {1, {"dog"}}), 1 - dataset.condition.classes));
    write_file(folder / "README.txt", "words");
    options.skip_bad = true;
    EXPECT_EQ(load().spec.condition.classes.count, 2);
    put("3.png", some_bytes({1, 4, 4}, 3));
    expect_contains(error(), "3.png: lies beside sub-folders");
    std::filesystem::remove(folder / "3.png");
    put("none/4.png", some_bytes({1, 4, 4}, 3));
    expect_contains(error(), "'none' cannot be the name of a class");
}

TEST_F(ImageFolder, OfSeveralSizesNeedsOneAndSaysWhatItDid) {
    put("a.png", some_bytes({3, 8, 8}));
    put("b.png", some_bytes({3, 6, 4}));
    expect_contains(error(), "a.png is 8x8");
    expect_contains(error(), "b.png is 6x4");
    expect_contains(error(), "dataset.size=32");
    options.size = "6x4";
    const Dataset dataset = load();
    EXPECT_EQ(to_string(dataset.spec.shape), "3x6x4");
    expect_contains(dataset.spec.about, "1 of them cropped around the middle and averaged to 6x4");
    options.size = "8";
    expect_contains(load().spec.about, "1 of which enlarged");
    for (const std::string size : {"0", "x", "8x", "8x0", "8 ", "9999"}) {
        options.size = size;
        expect_contains(error(), "expected a side or HEIGHTxWIDTH");
    }
}

TEST_F(ImageFolder, OfOddFilesNamesTheFirstOrSkipsAndCountsThem) {
    put("good.png", some_bytes({3, 8, 8}));
    write_file(folder / "cmyk.jpg", jpeg_of(some_bytes({4, 8, 8})));
    write_file(folder / "cut.jpg", jpeg_of(gradient(8, 8)).substr(0, 400));
    write_file(folder / "text.txt", "words");
    write_file(folder / "empty.png", "");
    put("transparent.png", torch::zeros({4, 8, 8}, torch::kUInt8));
    expect_contains(error(), "(and 3 more such files); remove it, or go on without by dataset.skip_bad=true");
    options.skip_bad = true;
    const Dataset dataset = load();
    EXPECT_EQ(dataset.size(), 1);
    expect_contains(dataset.spec.about, "5 bad files skipped");
    options.background = "black";
    EXPECT_EQ(load().size(), 2);
}

TEST_F(ImageFolder, HoldsOutTheSameImagesWhateverIsAdded) {
    options.test_share = 0.3;
    for (int i = 0; i < 40; ++i) put(std::to_string(i) + ".png", some_bytes({1, 4, 4}, uint64_t(i)));
    const auto before = load(Split::kTest).examples;
    EXPECT_EQ(before.size(0) + load().size(), 40);
    EXPECT_GT(before.size(0), 3);  // 12 expected; below 4 or above 22 once in a thousand seeds
    EXPECT_LT(before.size(0), 23);
    put("0a.png", some_bytes({1, 4, 4}, 100));
    const auto after = load(Split::kTest).examples;
    for (int64_t i = 0; i < before.size(0); ++i) {
        EXPECT_TRUE(after.eq(before[i]).flatten(1).all(1).any().item<bool>()) << i;
    }
}

TEST_F(ImageFolder, IsKeptAndReadAgainAsLongAsNothingChanges) {
    put("x/a.png", some_bytes({3, 4, 4}, 1));
    const Dataset first = load();
    const auto kept = [&] { return std::distance(std::filesystem::directory_iterator(cache / "x" / "diffuse"), {}); };
    EXPECT_EQ(kept(), 1);
    const Dataset again = load();
    EXPECT_TRUE(torch::equal(first.examples, again.examples));
    EXPECT_TRUE(torch::equal(first.condition.classes, again.condition.classes));
    EXPECT_EQ(first.spec.about, again.spec.about);
    EXPECT_EQ(kept(), 1);
    const auto changed = some_bytes({3, 4, 4}, 2);
    put("x/a.png", changed);
    EXPECT_TRUE(torch::equal(load().examples[0], changed));
    for (const auto& entry : std::filesystem::directory_iterator(cache / "x" / "diffuse")) {
        write_file(entry.path(), "damaged");
    }
    EXPECT_TRUE(torch::equal(load().examples[0], changed));
}

TEST(Cifar10, ReadsItsRecordsAndRefusesDamagedOnes) {
    const TemporaryFolder folder;
    const auto pixels = some_bytes({2, 3, 32, 32});
    const auto bytes_of = [&](int64_t i) {
        return std::string(reinterpret_cast<const char*>(pixels[i].data_ptr()), 3072);
    };
    for (int batch = 1; batch <= 5; ++batch) {
        write_file(folder / fmt::format("data_batch_{}.bin", batch), "\x03" + bytes_of(0) + "\x09" + bytes_of(1));
    }
    const DatasetOptions options{.kind = "cifar10", .dir = folder.path()};
    const Dataset dataset = load_dataset(options, Split::kTrain);
    EXPECT_EQ(dataset.size(), 10);
    EXPECT_TRUE(torch::equal(dataset.examples.narrow(0, 8, 2), pixels));
    EXPECT_TRUE(torch::equal(dataset.condition.classes.narrow(0, 8, 2), torch::tensor({3, 9}, torch::kInt64)));
    EXPECT_EQ(dataset.spec.condition.classes.names[3], "cat");
    expect_contains(error_of([&] { load_dataset(options, Split::kTest); }), "no test_batch.bin");
    write_file(folder / "test_batch.bin", "\x0a" + bytes_of(0));
    expect_contains(error_of([&] { load_dataset(options, Split::kTest); }), "image 0 has the label 10");
    write_file(folder / "test_batch.bin", "\x01" + bytes_of(0).substr(1));
    expect_contains(error_of([&] { load_dataset(options, Split::kTest); }), "no whole number of CIFAR-10's records");
}

std::string idx_of(const std::vector<int64_t>& shape, const std::string& bytes) {
    std::string file = std::string("\0\0\x08", 3) + char(shape.size());
    for (const int64_t side : shape) file += std::string("\0\0\0", 3) + char(side);
    return file + bytes;
}

TEST(IdxFolder, OfAnySizeChannelsAndLabels) {
    const TemporaryFolder folder;
    DatasetOptions options{.kind = "idx", .dir = folder.path()};
    expect_contains(error_of([&] { load_dataset(options, Split::kTrain); }), "no file whose name has");
    const std::string pixels = "abcdefghijkl";
    write_file(folder / "emnist-letters-train-images-idx3-ubyte", idx_of({2, 2, 3}, pixels));
    EXPECT_FALSE(load_dataset(options, Split::kTrain).condition.classes.defined());
    write_file(folder / "emnist-letters-train-labels-idx1-ubyte", idx_of({2}, "\x1a\x01"));
    const Dataset plain = load_dataset(options, Split::kTrain);
    EXPECT_EQ(to_string(plain.spec.shape), "1x2x3");
    EXPECT_EQ(plain.spec.condition.classes.names, (std::vector<std::string>{"1", "26"}));
    EXPECT_TRUE(torch::equal(plain.condition.classes, torch::tensor({1, 0}, torch::kInt64)));
    options.transpose = true;
    EXPECT_TRUE(torch::equal(load_dataset(options, Split::kTrain).examples, plain.examples.transpose(2, 3)));
    options.transpose = false;

    write_file(folder / "emnist-digits-train-images-idx4-ubyte", idx_of({2, 1, 2, 3}, pixels));  // N H W C
    expect_contains(error_of([&] { load_dataset(options, Split::kTrain); }), "say which by dataset.name");
    options.name = "Digits";
    const Dataset colour = load_dataset(options, Split::kTrain);
    EXPECT_EQ(to_string(colour.spec.shape), "3x1x2");
    EXPECT_EQ(colour.examples[0][1][0][1].item<uint8_t>(), 'e');
    write_file(folder / "emnist-digits-train-images-idx4-ubyte.gz", "the same, packed");
    EXPECT_EQ(load_dataset(options, Split::kTrain).size(), 2);
}

}  // namespace
}  // namespace diffuse
