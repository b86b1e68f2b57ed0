#include "diffuse/data/dataset.hpp"

#include <zlib.h>

#include <fstream>

#include "diffuse/base/file.hpp"
#include "diffuse/data/idx.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

std::string big_endian(uint32_t n) { return {char(n >> 24), char(n >> 16), char(n >> 8), char(n)}; }
std::string images_file(uint32_t count = 3, uint32_t side = 4) {
    std::string bytes = big_endian(0x803) + big_endian(count) + big_endian(side) + big_endian(side);
    for (uint32_t i = 0; i < count * side * side; ++i) bytes += char(i);
    return bytes;
}
std::string labels_file(const std::string& labels = {1, 2, 3}) {
    return big_endian(0x801) + big_endian(uint32_t(labels.size())) + labels;
}
void write(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}
void write_gz(const std::filesystem::path& path, const std::string& bytes) {
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, bytes.data(), unsigned(bytes.size()));
    gzclose(file);
}

class Idx : public testing::Test {
protected:
    std::string error(const std::string& bytes, int dimensions = 3) {
        write(folder / "file", bytes);
        const auto message = error_of([&] { read_idx(folder / "file", dimensions); });
        expect_contains(message, (folder / "file").string());
        return message;
    }
    TemporaryFolder folder;
};

TEST_F(Idx, ReadsPlainAndGzippedFilesAlike) {
    write(folder / "plain", images_file());
    write_gz(folder / "zipped", images_file());
    const auto plain = read_idx(folder / "plain", 3);
    EXPECT_EQ(plain.sizes(), (torch::IntArrayRef{3, 4, 4}));
    EXPECT_EQ(plain[2][3][3].item<int>(), 47);
    EXPECT_TRUE(torch::equal(plain, read_idx(folder / "zipped", 3)));
}

TEST_F(Idx, AGzipFileMayHaveSeveralMembers) {
    const std::string whole = images_file();
    for (const size_t cut : {size_t(1), size_t(16), whole.size() - 1}) {
        write_gz(folder / "first", whole.substr(0, cut));
        write_gz(folder / "second", whole.substr(cut));
        const auto members = read_file(folder / "first", 1000) + read_file(folder / "second", 1000);
        write(folder / "plain", whole);
        write(folder / "both", members);
        EXPECT_TRUE(torch::equal(read_idx(folder / "both", 3), read_idx(folder / "plain", 3))) << cut;
        expect_contains(error(members + "xy"), "2 bytes follow the gzip data");
    }
}

TEST_F(Idx, AFileCutAtAnyByteIsRefused) {
    const std::string whole = images_file(2, 3);
    for (size_t length = 0; length < whole.size(); ++length)
        expect_contains(error(whole.substr(0, length)), "truncated");
}

TEST_F(Idx, AGzippedFileCutAtAnyByteIsRefused) {
    write_gz(folder / "whole", images_file(2, 3));
    const std::string whole = read_file(folder / "whole", 1000);
    for (size_t length = 1; length < whole.size(); ++length) error(whole.substr(0, length));
}

TEST_F(Idx, TooLongMislabelledAndForeignFilesAreRefused) {
    expect_contains(error(images_file() + "x"), "too long");
    expect_contains(error(labels_file()), "1-dimensional data where 3-dimensional");
    expect_contains(error(images_file(), 1), "mixed up?");
    expect_contains(error("\x89PNG\r\n\x1a\n and so on and on"), "not an IDX file of bytes: it begins 89 50 4e 47");
    expect_contains(error(big_endian(0xd03) + big_endian(1) + big_endian(1) + big_endian(1) + "abcd"),
                    "not an IDX file of bytes");
}

TEST_F(Idx, AbsurdSizesAreRefusedWithoutTakingTheMemory) {
    expect_contains(error(big_endian(0x803) + big_endian(0xffffffff) + big_endian(0xffffffff) + big_endian(0xffffffff)),
                    "impossible size");
    expect_contains(error(big_endian(0x803) + big_endian(0) + big_endian(4) + big_endian(4)), "impossible size");
    expect_contains(error(big_endian(0x803) + big_endian(1 << 20) + big_endian(28) + big_endian(28) + "abc"),
                    "truncated");
}

TEST_F(Idx, AMissingFileAndAFolderAreErrors) {
    expect_contains(error_of([&] { read_idx(folder / "nothing", 3); }), "No such file");
    expect_contains(error_of([&] { read_idx(folder.path(), 3); }), "it is not a file");
}

class Mnist : public testing::Test {
protected:
    Mnist() { config.dir = folder.path(); }
    void write_train(const std::string& images, const std::string& labels) {
        write(folder / "train-images-idx3-ubyte", images);
        write_gz(folder / "train-labels-idx1-ubyte.gz", labels);
    }
    std::string error() {
        return error_of([&] { load_dataset(config, Split::kTrain); });
    }
    TemporaryFolder folder;
    DatasetOptions config;
};

TEST_F(Mnist, LoadsImagesWithTheirLabels) {
    write_train(images_file(), labels_file());
    const Dataset dataset = load_dataset(config, Split::kTrain);
    EXPECT_EQ(dataset.examples.sizes(), (torch::IntArrayRef{3, 1, 4, 4}));
    EXPECT_TRUE(torch::equal(dataset.condition.classes, torch::tensor({1, 2, 3}, torch::kInt64)));
}

TEST_F(Mnist, TakesTheFirstNImages) {
    write_train(images_file(), labels_file());
    config.limit = 2;
    EXPECT_EQ(load_dataset(config, Split::kTrain).size(), 2);
    EXPECT_EQ(load_dataset(config, Split::kTrain).condition.classes.size(0), 2);
    EXPECT_EQ(load_dataset(config, Split::kTrain).spec.condition.classes.count, 4) << "of all three";
    config.limit = 100;
    EXPECT_EQ(load_dataset(config, Split::kTrain).size(), 3);
}

TEST_F(Mnist, FilesThatDoNotBelongTogetherAreRefused) {
    write_train(images_file(), labels_file({1, 2}));
    expect_contains(error(), "has 3 images but");
}

TEST_F(Mnist, NeedsNoLabelsAndTakesOtherNames) {
    write_train(images_file(), labels_file({1, 2, 26}));  // as EMNIST's letters
    EXPECT_EQ(load_dataset(config, Split::kTrain).condition.classes[2].item<int64_t>(), 26);
    EXPECT_EQ(load_dataset(config, Split::kTrain).spec.condition.classes.count, 27);
    std::filesystem::remove(folder / "train-labels-idx1-ubyte.gz");
    EXPECT_EQ(load_dataset(config, Split::kTrain).size(), 3);
    EXPECT_FALSE(load_dataset(config, Split::kTrain).condition.classes.defined());
    EXPECT_EQ(load_dataset(config, Split::kTrain).spec.condition.classes.count, 0);
    std::filesystem::rename(folder / "train-images-idx3-ubyte", folder / "train-images.idx3-ubyte");
    EXPECT_EQ(load_dataset(config, Split::kTrain).size(), 3);
}

TEST_F(Mnist, IsRememberedByItsAbsolutePath) {
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(folder.path());
    const std::string found = located({.dir = "data"}).dir;
    std::filesystem::current_path(before);
    EXPECT_EQ(found, (std::filesystem::canonical(folder.path()) / "data").string());
    EXPECT_EQ(located({.kind = "digits"}).dir, "");
}

TEST_F(Mnist, AMissingFolderSaysWhereToGetTheData) {
    expect_contains(error(), "run scripts/get-mnist");
    write_train(images_file(), labels_file());
    expect_contains(error_of([&] { load_dataset(config, Split::kTest); }), "no t10k-images-idx3-ubyte");
}

TEST_F(Mnist, IsFoundThroughTheEnvironment) {
    write_train(images_file(), labels_file());
    const char* before = std::getenv("DIFFUSE_MNIST");
    const std::string kept = before ? before : "";
    setenv("DIFFUSE_MNIST", folder.path().c_str(), 1);
    EXPECT_EQ(load_dataset({}, Split::kTrain).size(), 3);
    before ? setenv("DIFFUSE_MNIST", kept.c_str(), 1) : unsetenv("DIFFUSE_MNIST");
}

TEST_F(Mnist, TheRealOneIsAsPublished) {
    if (!std::getenv("DIFFUSE_MNIST")) GTEST_SKIP() << "set DIFFUSE_MNIST to the folder of the four files to run this";
    const Dataset train = load_dataset({}, Split::kTrain), test = load_dataset({}, Split::kTest);
    EXPECT_EQ(train.size(), 60'000);
    EXPECT_EQ(test.size(), 10'000);
    EXPECT_EQ(train.spec.shape, (ExampleShape{1, 28, 28}));
    EXPECT_NEAR(train.examples.to(torch::kFloat64).mean().item<double>() / 255, 0.1307,
                5e-5);  // the mean everybody normalises by
    EXPECT_EQ(train.condition.classes[0].item<int64_t>(), 5);
    EXPECT_EQ(test.condition.classes[0].item<int64_t>(), 7);
}

TEST(DigitsDataset, IsAFunctionOfItsSeedAndItsTestSplitIsNew) {
    DatasetOptions config{.kind = "digits", .dir = {}, .limit = 200};
    const Dataset first = load_dataset(config, Split::kTrain), test = load_dataset(config, Split::kTest);
    EXPECT_TRUE(torch::equal(first.examples, load_dataset(config, Split::kTrain).examples));
    EXPECT_EQ(test.size(), 10'000);
    EXPECT_FALSE(torch::equal(first.examples, test.examples.narrow(0, 0, 200)));
    config.limit = 100;
    EXPECT_TRUE(torch::equal(first.examples.narrow(0, 0, 100), load_dataset(config, Split::kTrain).examples));
    config.seed = 1;
    EXPECT_FALSE(torch::equal(first.examples.narrow(0, 0, 100), load_dataset(config, Split::kTrain).examples));
}

TEST(Pixels, GoToMinusOneToOneAndBack) {
    const auto bytes = torch::arange(256).to(torch::kUInt8);
    EXPECT_EQ(to_signed(bytes).min().item<float>(), -1);
    EXPECT_EQ(to_signed(bytes).max().item<float>(), 1);
    EXPECT_TRUE(torch::equal(to_bytes(to_signed(bytes)), bytes));
    EXPECT_TRUE(torch::equal(to_bytes(torch::tensor({-7.0f, 7.0f})), torch::tensor({0, 255}, torch::kUInt8)));
}

}  // namespace
}  // namespace diffuse
