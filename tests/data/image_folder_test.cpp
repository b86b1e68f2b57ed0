#include "diffuse/data/image.hpp"

#include <sys/stat.h>

#include <cstdlib>
#include <sstream>

#include "data/image_files.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/data/jpeg.hpp"

namespace diffuse {
namespace {

torch::Tensor some_bytes(torch::IntArrayRef shape, uint64_t seed = 1) {
    torch::manual_seed(seed);
    return torch::randint(0, 256, shape).to(torch::kUInt8);
}

/// With Exif data behind a comment, which some programs put first.
std::string with_orientation(const std::string& jpeg, int orientation) {
    const std::string header("Exif\0\0", 6);
    return with_segment(with_segment(jpeg, '\xe1', header + exif_of(orientation)), '\xfe', "a comment");
}

/// With bytes between its segments that belong to none, before the first table of quantisation.
std::string with_odd_bytes(std::string jpeg) { return jpeg.insert(jpeg.find("\xff\xdb"), "some bytes"); }

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
        EXPECT_LE(largest_difference(decode_image(bytes, "a").pixels, expected), 4) << orientation;
    }
    const std::string png = with_chunk(png_of(stored), "eXIf", exif_of(6));
    EXPECT_TRUE(torch::equal(decode_image(png, "a").pixels, upright(stored, 6)));
}

TEST(Image, OrientationIsFoundWhereverProgramsPutIt) {
    using namespace std::string_literals;
    const auto stored = gradient(16, 24);
    const auto turned = upright(stored, 6);
    const std::string jpeg = jpeg_of(stored), png = png_of(stored), exif = "Exif\0\0"s;
    const std::string header = "http://ns.adobe.com/xap/1.0/\0"s,
                      attribute = "<rdf:Description tiff:Orientation=\"6\"/>",
                      element = "<tiff:Orientation>6</tiff:Orientation>";
    std::string hex;
    for (const char byte : exif + exif_of(6)) hex += fmt::format("{:02x}", uint8_t(byte));
    const std::string raw = fmt::format("\nexif\n{:8}\n{}\n{}\n", hex.size() / 2, hex.substr(0, 20), hex.substr(20));
    const std::string keyword = "XML:com.adobe.xmp\0"s;
    const std::vector<std::string> files = {
        with_segment(jpeg, '\xe1', exif + exif_of(6, /*as_long=*/true)),
        with_segment(jpeg, '\xe1', header + attribute),
        with_segment(jpeg, '\xe1', header + element),
        with_segment(with_segment(jpeg, '\xe1', header + "tiff:Orientation=\"8\""), '\xe1', exif + exif_of(6)),
        with_segment(with_segment(jpeg, '\xe1', header + attribute), '\xe1', exif + exif_of(9)),  // makes no sense
        with_chunk(png, "iTXt", keyword + "\0\0\0\0"s + attribute),
        with_chunk(png, "iTXt", keyword + "\x01\0\0\0"s + deflated(attribute)),
        with_chunk(png, "tEXt", "Raw profile type exif\0"s + raw),
        with_chunk(png, "zTXt", "Raw profile type APP1\0\0"s + deflated(raw))};
    for (size_t i = 0; i < files.size(); ++i) {
        EXPECT_EQ(image_head(files[i], "a").height, 24) << i;
        EXPECT_LE(largest_difference(decode_image(files[i], "a").pixels, turned), 4) << i;  // as above
    }
    for (const std::string& xmp : {"tiff:Orientation=\"9\""s, "tiff:Orientation"s, ""s}) {
        EXPECT_EQ(image_head(with_segment(jpeg, '\xe1', header + xmp), "a").height, 16);
    }
}

TEST(Image, JpegThatIsCutDamagedOrInCmykIsRefusedByName) {
    const std::string whole = jpeg_of(gradient(32, 32));
    expect_contains(error_of([&] { decode_image(whole.substr(0, whole.size() / 2), "a.jpg"); }),
                    "a.jpg: not a readable");
    expect_contains(error_of([&] { decode_image(whole.substr(0, 20), "a.jpg"); }), "a.jpg: not a readable JPEG file");
    expect_contains(error_of([&] { image_head(jpeg_of(some_bytes({4, 8, 8})), "a.jpg"); }), "a.jpg: is in CMYK");
    expect_contains(error_of([&] { image_head("GIF89a", "a.jpg"); }), "a.jpg: neither a PNG nor a JPEG file");
}

TEST(Image, JpegWithBytesThatBelongToNoPixelIsReadWithAWord) {
    const std::string whole = jpeg_of(gradient(32, 32));
    const size_t end = whole.size() - 2;  // of the pixels; behind it stands the marker EOI
    const std::string at_the_end = whole.substr(0, end) + "some bytes" + whole.substr(end);
    for (const auto& odd : {with_odd_bytes(whole), at_the_end}) {
        const DecodedImage decoded = decode_image(odd, "a.jpg");
        EXPECT_TRUE(torch::equal(decoded.pixels, decode_image(whole, "a.jpg").pixels));
        expect_contains(decoded.remark, "extraneous bytes before marker");
    }
    EXPECT_EQ(decode_image(whole, "a.jpg").remark, "");
    // What the decoder fills up with grey is no image, be there an end or not.
    const std::string half = whole.substr(0, whole.size() * 3 / 4), odd_half = half + "\xff\xd9";
    for (const auto& damaged : {half, odd_half, whole.substr(0, end)}) {
        expect_contains(error_of([&] { decode_image(damaged, "a.jpg"); }), "a.jpg: not a readable JPEG file");
    }
}

TEST(Image, OfOtherKindsIsNamed) {
    using namespace std::string_literals;
    expect_contains(error_of([&] { decode_image("GIF89a", "a.png"); }), "but GIF; convert it to PNG");
    expect_contains(error_of([&] {
                        decode_image(
                            "\0\0\0\x18"
                            "ftypheic"s,
                            "a.jpg");
                    }),
                    "but HEIC");
    std::string apple = png_of(gradient(4, 4));
    apple.insert(8, big_endian_bytes(4) + "CgBI" + std::string(8, '\0'));
    expect_contains(error_of([&] { decode_image(apple, "a.png"); }), "-revert-iphone-optimizations");
    EXPECT_FALSE(is_image("some words", "notes.txt"));
    EXPECT_TRUE(is_image("some words", "notes.JPG"));
    EXPECT_TRUE(is_image("RIFF....WEBPVP8 ", "photo"));
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
        log::set_stream(&messages);
        options.kind = "images";
        options.dir = folder.path();
        options.test_share = 0;
    }
    void TearDown() override {
        unsetenv("XDG_CACHE_HOME");
        log::set_stream(nullptr);
    }
    std::string said() const { return messages.str(); }
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
    std::ostringstream messages;
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
    write_file(folder / "text.gif", "words");
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

TEST_F(ImageFolder, WithNotesBesideItsImagesPassesThemOverAndSaysSo) {
    put("cat/a.png", some_bytes({1, 4, 4}, 1));
    write_file(folder / "cat/a.txt", "a caption");
    write_file(folder / "labels.json", "{}");
    write_file(folder / "cat/Thumbs.db", "");
    EXPECT_EQ(load().size(), 1);
    expect_contains(said(), "3 files that are no images are passed over, the first cat/Thumbs.db");
    write_file(folder / "cat/photo", "GIF89a, whatever its name");
    expect_contains(error(), "photo: neither a PNG nor a JPEG file, but GIF");
}

TEST_F(ImageFolder, OfFoldersLinkedToOneAnotherCountsEachOnce) {
    for (const std::string name : {"a", "b", "c"}) put(name + "/1.png", some_bytes({1, 4, 4}, uint64_t(name[0])));
    for (const std::string from : {"a", "b", "c"}) {
        for (const std::string to : {"a", "b", "c"}) {
            std::filesystem::create_directory_symlink("../" + to, folder / from / ("to " + to));
        }
    }
    std::filesystem::create_directory_symlink(folder.path().parent_path(), folder / "a" / "above");
    ASSERT_EQ(mkfifo((folder / "a" / "pipe.png").c_str(), 0600), 0);  // reading it would not end
    const Dataset dataset = load();
    EXPECT_EQ(dataset.spec.condition.classes.names, (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_EQ(dataset.spec.condition.classes.examples, (std::vector<int64_t>{1, 1, 1}));
    expect_contains(said(), "10 links to folders that are listed already are passed over");
}

TEST_F(ImageFolder, HasAClassByItsNameInNormalForm) {
    put("cafe\xcc\x81/1.png", some_bytes({1, 4, 4}, 1));  // as macOS writes it
    put("other/1.png", some_bytes({1, 4, 4}, 2));
    const ConditionSpec known = load().spec.condition;
    EXPECT_EQ(known.classes.names.front(), "caf\xc3\xa9");
    EXPECT_EQ(known.class_number("caf\xc3\xa9"), 0);
    EXPECT_EQ(known.class_number("cafe\xcc\x81"), 0);
    put("caf\xc3\xa9/2.png", some_bytes({1, 4, 4}, 3));
    EXPECT_EQ(load().spec.condition.classes.examples, (std::vector<int64_t>{2, 1})) << "it is one class";
    put("caf\xe9/3.png", some_bytes({1, 4, 4}, 4));
    expect_contains(error(), "it is no UTF-8");
}

TEST_F(ImageFolder, KeepsAnImageOfEachClassForTraining) {
    options.test_share = 0.9;
    for (int i = 0; i < 20; ++i) put("a/" + std::to_string(i) + ".png", some_bytes({1, 4, 4}, uint64_t(i)));
    for (uint64_t i = 20; i < 40; ++i) {  // alone in its class: nine of ten would be held out
        std::filesystem::remove_all(folder / "b");
        put("b/1.png", some_bytes({1, 4, 4}, i));
        const auto training = load().spec.condition.classes.examples;
        EXPECT_GE(training[0], 1);
        EXPECT_EQ(training[1], 1);
        EXPECT_TRUE(load(Split::kTest).condition.classes.eq(0).all().item<bool>());
    }
    tell_classes(load().spec.condition.classes);
    expect_contains(said(), "warning: a class that has few examples is hardly learnt, and one that has none never: ");
    expect_contains(said(), "b (1)");
}

TEST_F(ImageFolder, TellsWhichClassesWereNeverTrained) {
    for (uint64_t i = 0; i < 9; ++i) put("a/" + std::to_string(i) + ".png", some_bytes({1, 4, 4}, i));
    put("b/1.png", some_bytes({1, 4, 4}, 9));
    options.limit = 1;
    const ConditionSpec spec = load().spec.condition;
    ASSERT_EQ(spec.classes.examples[0] + spec.classes.examples[1], 1);
    const std::string untrained = spec.classes.examples[0] == 0 ? "a" : "b";
    EXPECT_EQ(spec.never_trained(spec.of_classes("all", 4)), std::vector<std::string>{untrained});
    EXPECT_TRUE(spec.never_trained({}).empty());
    tell_classes(spec.classes);
    expect_contains(said(), untrained + " (none)");
}

TEST_F(ImageFolder, OfPartsOfADataSetIsNotTakenForClassesWithoutAWord) {
    put("train/1.png", some_bytes({1, 4, 4}, 1));
    put("Val/1.png", some_bytes({1, 4, 4}, 2));
    tell_classes(load().spec.condition.classes);
    expect_contains(said(), "2 classes, with their examples: Val (1), train (1)");
    expect_contains(said(), "the sub-folders Val, train are taken for classes");
}

TEST_F(ImageFolder, SaysHowManyFilesHadAWarningAndWereConverted) {
    const std::string whole = jpeg_of(gradient(8, 8));
    write_file(folder / "a.jpg", whole);
    write_file(folder / "b.jpg", with_odd_bytes(whole));
    put("c.png", some_bytes({3, 8, 8}));
    write_file(folder / "d.png", with_chunk(png_of(gradient(8, 8)), "gAMA", big_endian_bytes(100'000)));
    for (int i = 0; i < 2; ++i) {  // the second time from what was kept
        const std::string about = load().spec.about;
        expect_contains(about, "; 1 converted to sRGB from the colours that they tell");
        expect_contains(about, "; 1 read with a warning, the first b.jpg: Corrupt JPEG data: 10 extraneous bytes");
    }
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

TEST(Cifar10, IsFoundInTheFolderOfItsArchive) {
    const TemporaryFolder folder;
    std::filesystem::create_directory(folder / "cifar-10-batches-bin");
    write_file(folder / "cifar-10-batches-bin/test_batch.bin", "\x03" + std::string(3072, 'x'));
    EXPECT_EQ(load_dataset({.kind = "cifar10", .dir = folder.path()}, Split::kTest).size(), 1);
}

TEST(Cifar100, IsLabelledByFineOrCoarseClasses) {
    const TemporaryFolder folder;
    const std::string inside = "cifar-100-binary/", pixels(3072, 'x');
    DatasetOptions options{.kind = "cifar100", .dir = folder.path()};
    expect_contains(error_of([&] { load_dataset(options, Split::kTrain); }),
                    "cifar-100-binary.tar.gz, or say by dataset.dir");
    std::filesystem::create_directory(folder / inside);
    write_file(folder / (inside + "train.bin"), "\x04\x1e" + pixels + "\x01\x49" + pixels);
    const auto fine = load_dataset(options, Split::kTrain);
    EXPECT_TRUE(torch::equal(fine.condition.classes, torch::tensor({30, 73}, torch::kInt64)));
    EXPECT_EQ(fine.spec.condition.classes.count, 100);
    EXPECT_EQ(fine.examples.sizes(), (torch::IntArrayRef{2, 3, 32, 32}));
    EXPECT_TRUE(fine.examples.eq('x').all().item<bool>());
    options.labels = "coarse";
    std::string names;
    for (int i = 0; i < 20; ++i) names += fmt::format("kind_{}\n", i);
    write_file(folder / (inside + "coarse_label_names.txt"), names);
    const auto coarse = load_dataset(options, Split::kTrain);
    EXPECT_TRUE(torch::equal(coarse.condition.classes, torch::tensor({4, 1}, torch::kInt64)));
    EXPECT_EQ(coarse.spec.condition.classes.names[4], "kind_4");
    write_file(folder / (inside + "test.bin"), "\x14\x01" + pixels);
    expect_contains(error_of([&] { load_dataset(options, Split::kTest); }), "label 20; CIFAR-100's go from 0 to 19");
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

TEST(IdxFolder, TakesPlainFilesThatAreNotHidden) {
    const TemporaryFolder folder;
    const std::string file = idx_of({2, 2, 3}, "abcdefghijkl");
    write_file(folder / "train-images.idx3-ubyte", file);
    write_file(folder / "._train-images.idx3-ubyte", "what macOS puts beside it");
    std::filesystem::create_directory(folder / "train-images-idx3-ubyte");
    for (const std::string kind : {"mnist", "idx"}) {
        EXPECT_EQ(load_dataset({.kind = kind, .dir = folder.path()}, Split::kTrain).size(), 2) << kind;
    }
    std::filesystem::rename(folder / "train-images.idx3-ubyte",
                            folder / "train-images-idx3-ubyte/train-images-idx3-ubyte");
    EXPECT_EQ(load_dataset({.kind = "mnist", .dir = folder.path()}, Split::kTrain).size(), 2);
}

}  // namespace
}  // namespace diffuse
