// Every reader against every small damage to a valid file: each byte changed in several ways, taken out or put in, and
// the file cut at each length. A reader may read it or throw Error, in one line; it must never crash, hang or take
// much memory. CI runs this under AddressSanitizer and UndefinedBehaviorSanitizer; tests/fuzz goes on where it ends.

#include <zlib.h>

#include "diffuse/base/file.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/data/idx.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/plot/sheet.hpp"
#include "diffuse/run/config.hpp"
#include "diffuse/run/model.hpp"
#include "memory_file.hpp"
#include "testing.hpp"
#include "training.hpp"

namespace diffuse {
namespace {

using Reader = std::function<void(const std::filesystem::path&)>;

struct Outcome {
    int read = 0, refused = 0;
};

/// Gives `reader` every damage to the first `most` bytes of `valid`, and each of its beginnings up to there.
Outcome damage(const std::string& valid, const Reader& reader, size_t most = SIZE_MAX) {
    Outcome outcome;
    const auto offer = [&](const std::string& bytes) {
        const MemoryFile file(bytes);
        try {
            reader(file.path());
            ++outcome.read;
        } catch (const Error& error) {
            ++outcome.refused;
        }
    };
    for (size_t i = 0; i < std::min(most, valid.size()); ++i) {
        const char old = valid[i];
        for (const char value : {char(old ^ 1), char(old ^ 16), char(old ^ 128), char(~old), '\0', '\xff', '"', '9'}) {
            if (value == old) continue;
            std::string bytes = valid;
            bytes[i] = value;
            offer(bytes);
        }
        offer(valid.substr(0, i));
        offer(valid.substr(0, i) + valid.substr(i + 1));
        offer(valid.substr(0, i) + old + valid.substr(i));
    }
    offer(valid + '\0');
    std::cout << outcome.read + outcome.refused << " damaged files: " << outcome.refused << " refused, " << outcome.read
              << " still valid\n";
    return outcome;
}

std::string written(const std::function<void(const std::filesystem::path&)>& write) {
    const TemporaryFolder folder;
    write(folder / "file");
    return read_file(folder / "file", 1 << 24);
}

std::string idx() {
    std::string bytes("\0\0\x08\x03\0\0\0\x02\0\0\0\x03\0\0\0\x04", 16);
    for (char c = 0; c < 24; ++c) bytes += c;
    return bytes;
}

std::string gzip(const std::string& bytes) {
    return written([&](const auto& path) {
        const gzFile file = gzopen(path.c_str(), "wb");
        gzwrite(file, bytes.data(), unsigned(bytes.size()));
        gzclose(file);
    });
}

TEST(Mutation, ConfigNeverCrashes) {
    const std::string valid = to_json(Config{}).dump();
    const auto outcome = damage(valid, [](const auto& path) { load_config(path); });
    EXPECT_GT(outcome.refused, 0);
}

TEST(Mutation, IdxNeverCrashesAndKnowsItsLength) {
    const auto expected = [](const auto& path) { EXPECT_EQ(read_idx(path, 3).sizes(), (torch::IntArrayRef{2, 3, 4})); };
    const std::string valid = idx();
    damage(valid, expected);
}

TEST(Mutation, GzippedIdxIsReadRightOrNotAtAll) {
    const torch::Tensor original = read_idx(MemoryFile(idx()).path(), 3);
    damage(gzip(idx()), [&](const auto& path) { EXPECT_TRUE(torch::equal(read_idx(path, 3), original)); });
}

TEST(Mutation, PngIsReadRightOrNotAtAll) {
    const auto original = torch::arange(3 * 7 * 5, torch::kUInt8).view({3, 7, 5});
    const std::string valid = written([&](const auto& path) { write_png(path, original); });
    const auto outcome = damage(valid, [&](const auto& path) { EXPECT_TRUE(torch::equal(read_png(path), original)); });
    EXPECT_EQ(outcome.read, 0);
}

TEST(Mutation, TextsOfAPngAreReadOrRefused) {
    const std::string valid = written([&](const auto& path) {
        write_png(path, torch::zeros({1, 2, 2}, torch::kUInt8), {{"seed", "0"}, {"command", "diffuse"}});
    });
    const auto outcome = damage(valid, [](const auto& path) { read_png_head(path); });
    EXPECT_EQ(outcome.read, 0);
}

TEST(Mutation, TensorFileNeverCrashes) {
    const TensorFile file{
        {{"images", torch::arange(6, torch::kFloat32).view({1, 2, 3})}, {"n", torch::zeros({2}, torch::kInt64)}},
        {{"format", "x"}}};
    damage(written([&](const auto& path) { write_tensor_file(path, file); }),
           [](const auto& path) { read_tensor_file(path); });
}

TEST(Mutation, CheckpointNeverCrashes) {
    const Config config = tiny_config();
    const auto weights = make_unet(config.net.unet, {}, 0, torch::kCPU).named_parameters();
    const Checkpoint checkpoint{config, {}, 1, weights, weights, {0, 0.5, {}, "data", "machine", weights, weights}};
    const std::string valid = written([&](const auto& path) { save_checkpoint(path, checkpoint); });
    uint64_t header = 0;
    std::memcpy(&header, valid.data(), 8);
    // Of the header's hundreds of entries one will do; the metadata, which come first, are all in.
    const size_t most = valid.find("adamw.mean.") + 200;
    ASSERT_LT(most, size_t(header));
    damage(
        valid, [](const auto& path) { make_network(load_checkpoint(path), "ema", torch::kCPU); }, most);
}

}  // namespace
}  // namespace diffuse
