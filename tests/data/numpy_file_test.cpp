#include "diffuse/data/numpy_file.hpp"

#include <zlib.h>

#include "diffuse/base/file.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

template <class T>
std::string bytes_in(const std::vector<T>& numbers) {
    return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T)};
}

std::string little_endian(uint64_t value, size_t size) { return bytes_in(std::vector{value}).substr(0, size); }

/// A .npy file, padded as NumPy does.
std::string npy(const std::string& header, const std::string& numbers, char version = 1) {
    const size_t before = version == 1 ? 10 : 12, length = (before + header.size() + 64) / 64 * 64 - before;
    return "\x93NUMPY" + std::string{version, '\0'} + little_endian(length, before - 8) + header +
           std::string(length - header.size() - 1, ' ') + "\n" + numbers;
}

std::string described(const std::string& type, const std::string& shape, const std::string& fortran = "False") {
    return "{'descr': '" + type + "', 'fortran_order': " + fortran + ", 'shape': (" + shape + "), }";
}

std::string deflated(const std::string& bytes) {
    std::string packed(compressBound(uLong(bytes.size())) + 16, '\0');
    z_stream stream{};
    deflateInit2(&stream, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(bytes.data()));
    stream.avail_in = unsigned(bytes.size());
    stream.next_out = reinterpret_cast<uint8_t*>(packed.data());
    stream.avail_out = unsigned(packed.size());
    EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
    packed.resize(stream.total_out);
    deflateEnd(&stream);
    return packed;
}

/// A zip file as NumPy writes it: entries have sizes of 64 bits beside them, the list has those of 32.
std::string npz(const std::vector<std::pair<std::string, std::string>>& files, bool packs) {
    std::string all, list;
    for (const auto& [name, bytes] : files) {
        const std::string content = packs ? deflated(bytes) : bytes;
        const auto crc = crc32(0, reinterpret_cast<const uint8_t*>(bytes.data()), unsigned(bytes.size()));
        const std::string about =
            little_endian(0, 2) + little_endian(packs ? 8 : 0, 2) + little_endian(0, 4) + little_endian(crc, 4);
        list += "PK\1\2" + little_endian(45, 2) + little_endian(45, 2) + about + little_endian(content.size(), 4) +
                little_endian(bytes.size(), 4) + little_endian(name.size(), 2) + std::string(12, '\0') +
                little_endian(all.size(), 4) + name;
        all += "PK\3\4" + little_endian(45, 2) + about + std::string(8, '\xff') + little_endian(name.size(), 2) +
               little_endian(20, 2) + name + little_endian(1, 2) + little_endian(16, 2) +
               little_endian(bytes.size(), 8) + little_endian(content.size(), 8) + content;
    }
    return all + list + "PK\5\6" + std::string(4, '\0') + little_endian(files.size(), 2) +
           little_endian(files.size(), 2) + little_endian(list.size(), 4) + little_endian(all.size(), 4) +
           std::string(2, '\0');
}

const std::vector<double> kNumbers = {1, 2, 3, 4.5, 5, -6};
const std::string kArray = npy(described("<f8", "2, 3"), bytes_in(kNumbers));

torch::Tensor array_in(const std::string& bytes) { return parse_numpy(bytes, "file").at(""); }

TEST(NumpyFile, ArraysOfPlainNumbersAreRead) {
    const auto expected = torch::tensor(kNumbers, torch::kFloat64).view({2, 3});
    EXPECT_TRUE(torch::equal(array_in(kArray), expected));
    EXPECT_TRUE(torch::equal(array_in(npy(described("<f8", "2, 3"), bytes_in(kNumbers), 2)), expected));
    const std::vector<float> floats(kNumbers.begin(), kNumbers.end());
    EXPECT_TRUE(torch::equal(array_in(npy(described("<f4", "2, 3"), bytes_in(floats))), expected.to(torch::kFloat32)));
    const auto columns = array_in(npy(described("<f8", "3, 2", "True"), bytes_in(kNumbers)));
    EXPECT_TRUE(torch::equal(columns, expected.t()));
    EXPECT_EQ(array_in(npy(described("<f8", "6,"), bytes_in(kNumbers))).sizes(), torch::IntArrayRef({6}));
    EXPECT_EQ(array_in(npy(described("<f8", ""), bytes_in(std::vector{1.0}))).dim(), 0);
}

TEST(NumpyFile, ZipFilesOfArraysAreRead) {
    const std::string mu = npy(described("<f8", "2,"), bytes_in(std::vector{0.5, 1.0}));
    for (const bool packs : {false, true}) {
        const auto arrays = parse_numpy(npz({{"mu.npy", mu}, {"sigma.npy", kArray}}, packs), "file");
        ASSERT_EQ(arrays.size(), 2);
        EXPECT_TRUE(torch::equal(arrays.at("mu"), torch::tensor({0.5, 1.0}, torch::kFloat64)));
        EXPECT_EQ(arrays.at("sigma").sizes(), torch::IntArrayRef({2, 3}));
    }
    const TemporaryFolder folder;
    write_file(folder / "a.npz", npz({{"a.npy", mu}}, true));
    EXPECT_TRUE(read_numpy(folder / "a.npz").contains("a"));
}

TEST(NumpyFile, WrongFilesAreRefusedWithWhatIsWrong) {
    std::string damaged = npz({{"a.npy", kArray}}, false), one_more = damaged + "x";
    damaged[damaged.find("NUMPY") + 100] ^= 1;
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"hello", "file: it is no file of NumPy"},
        {kArray.substr(0, 9), "file: it is cut short"},
        {kArray.substr(0, 50), "file: it is cut short"},
        {kArray.substr(0, kArray.size() - 1), "file: it has 47 bytes of numbers, its header promises 48"},
        {kArray + "x", "file: it has 49 bytes of numbers, its header promises 48"},
        {npy(described("<f8", "2, 3"), "", 4), "file: version 4 of the format is not known"},
        {npy(described("<i8", "2, 3"), ""), "file: its numbers are of type '<i8'; save them as float32 or float64"},
        {npy(described(">f8", "2, 3"), ""), "file: its numbers are of type '>f8'"},
        {npy(described("|O", "2, 3"), ""), "file: its numbers are of type '|O'"},
        {npy(described("<f8", "99999999999, 99999999999"), ""), "file: its header claims an impossible size"},
        {npy(described("<f8", "99999999999999999999999"), ""), "file: its header claims an impossible size"},
        {npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2,), }", ""), "file: its header is none of"},
        {npy("{}" + std::string(5000, 'x'), ""), "file: its header is none of"},
        {damaged, "file: its array 'a': it is damaged"},
        {one_more, "file: bytes follow the list of its arrays"},
        {npz({{"a.npy", kArray}, {"a.npy", kArray}}, true), "file: its array 'a': there are two"},
        {npz({{"a.txt", "hello"}}, true), "file: its array 'a.txt': it is no array of NumPy"},
    };
    for (const auto& [bytes, message] : cases) {
        const auto found = error_of([&] { parse_numpy(bytes, "file"); });
        EXPECT_TRUE(found.starts_with(message)) << found << "\nnot: " << message;
    }
}

TEST(NumpyFile, AFileThatIsCutOrChangedAtAnyByteIsReadOrRefused) {
    for (const std::string& whole : {kArray, npz({{"a.npy", kArray}}, false), npz({{"a.npy", kArray}}, true)}) {
        for (size_t i = 0; i < whole.size(); ++i) {
            std::string changed = whole;
            changed[i] = char(changed[i] ^ 0x41);
            for (const std::string& bytes : {whole.substr(0, i), changed}) {
                try {
                    parse_numpy(bytes, "file");
                } catch (const Error& error) {
                    EXPECT_TRUE(std::string(error.what()).starts_with("file: "));
                }
            }
        }
    }
}

}  // namespace
}  // namespace diffuse
