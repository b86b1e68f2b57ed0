#include "diffuse/base/tensor_file.hpp"

#include <fstream>

#include "diffuse/base/file.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

TensorFile example() {
    return {{{"a", torch::arange(6, torch::kFloat32).view({2, 3})},
             {"b", torch::tensor({int64_t{-5}})},
             {"bytes", torch::tensor({1, 2, 255}, torch::kUInt8)},
             {"channels_last",
              torch::arange(8, torch::kFloat64).view({1, 2, 2, 2}).contiguous(torch::MemoryFormat::ChannelsLast)},
             {"half", torch::arange(3).to(torch::kFloat16)},
             {"int", torch::arange(3).to(torch::kInt32)},
             {"empty", torch::empty({0, 4})}},
            {{"step", "7"}, {"note", "quotes \" and \xc3\xa9"}}};
}

/// A file with the given header and `bytes` bytes of data.
std::string with_header(const std::string& header, size_t bytes) {
    const uint64_t size = header.size();
    return std::string(reinterpret_cast<const char*>(&size), 8) + header + std::string(bytes, '\0');
}

class TensorFileTest : public testing::Test {
protected:
    std::string error(const std::string& bytes) {
        write_file(folder / "t", bytes);
        const auto message = error_of([&] { read_tensor_file(folder / "t"); });
        expect_contains(message, (folder / "t").string());
        return message;
    }
    TemporaryFolder folder;
};

TEST_F(TensorFileTest, ReadsBackWhatItWrote) {
    const TensorFile file = example();
    write_tensor_file(folder / "t", file);
    const TensorFile read = read_tensor_file(folder / "t");
    EXPECT_EQ(read.metadata, file.metadata);
    ASSERT_EQ(read.tensors.size(), file.tensors.size());
    for (const auto& [name, tensor] : file.tensors) {
        EXPECT_EQ(read.tensors.at(name).scalar_type(), tensor.scalar_type()) << name;
        EXPECT_TRUE(torch::equal(read.tensors.at(name), tensor)) << name;
    }
}

TEST_F(TensorFileTest, IsReadFromBytesInMemoryUnderTheirName) {
    write_tensor_file(folder / "t", example());
    const std::string bytes = read_file(folder / "t", 10'000);
    EXPECT_EQ(parse_tensor_file(bytes, "some bytes").tensors.size(), example().tensors.size());
    const auto message = error_of([&] { parse_tensor_file(bytes.substr(0, 100), "some bytes"); });
    EXPECT_TRUE(message.starts_with("some bytes: not a valid safetensors file")) << message;
}

TEST_F(TensorFileTest, IsReadByPythonInOneLine) {
    const std::string python = DIFFUSE_PYTHON;
    if (std::system((python + " -c 'import numpy, safetensors' 2>/dev/null").c_str()) != 0) {
        GTEST_SKIP() << "no Python with numpy and safetensors in .venv";
    }
    write_tensor_file(folder / "t", example());
    const std::string script =
        "from safetensors.numpy import load_file; t = load_file('" + (folder / "t").string() +
        "'); "
        "assert t['a'].tolist() == [[0, 1, 2], [3, 4, 5]] and t['b'].tolist() == [-5]; "
        "assert t['channels_last'].ravel().tolist() == list(range(8)) and t['empty'].shape == (0, 4)";
    EXPECT_EQ(std::system((python + " -c \"" + script + "\"").c_str()), 0);
}

TEST_F(TensorFileTest, AFileCutAtAnyByteIsRefused) {
    write_tensor_file(folder / "whole", example());
    const std::string whole = read_file(folder / "whole", 10'000);
    for (size_t length = 0; length < whole.size(); ++length) error(whole.substr(0, length));
}

TEST_F(TensorFileTest, NoChangeOfOneByteInTheHeaderCrashesTheReader) {
    write_tensor_file(folder / "whole", example());
    const std::string whole = read_file(folder / "whole", 10'000);
    const size_t header = whole.find("}}") + 2;
    for (size_t i = 0; i < header; ++i) {
        for (const char change : {char(0), char(0xff), '{', '"', '9', ','}) {
            std::string bytes = whole;
            bytes[i] = change;
            write_file(folder / "t", bytes);
            try {
                read_tensor_file(folder / "t");  // some changes leave a valid file: a name or the metadata
            } catch (const Error&) {
            }
        }
    }
}

TEST_F(TensorFileTest, RefusesWhatTheFormatForbids) {
    const std::string f32 = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    write_file(folder / "good", with_header(f32, 4));
    EXPECT_EQ(read_tensor_file(folder / "good").tensors.size(), 1u);

    expect_contains(error(with_header(f32, 5)), "1 bytes at the end belong to no tensor");
    expect_contains(error(with_header(f32, 3)), "lies outside");
    expect_contains(error(with_header(R"([1])", 0)), "does not start with '{'");
    expect_contains(error(with_header(R"({"a":)", 0)), "not valid JSON");
    expect_contains(error(with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4)),
                    "its shape needs 8");
    expect_contains(error(with_header(R"({"a":{"dtype":"F17","shape":[2],"data_offsets":[0,4]}})", 4)), "dtype F17");
    expect_contains(error(with_header(R"({"a":{"dtype":"BOOL","shape":[3],"data_offsets":[0,4]}})", 4)),
                    "its shape needs 3");
    expect_contains(error(with_header(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4)),
                    "'shape' holds -1");
    expect_contains(error(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4)), "lies outside");
    expect_contains(error(with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", 4)),
                    "must have just");
    expect_contains(
        error(with_header(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4)),
        "overflows");
    expect_contains(
        error(with_header(
            R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
            3)),
        "overlap");
    expect_contains(
        error(with_header(
            R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
            3)),
        "gap");
    expect_contains(
        error(with_header(
            R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
            0)),
        "has the name 'a' twice");
    expect_contains(
        error(with_header(R"({"a":{"dtype":"U8","shape":[0,18446744073709551615],"data_offsets":[0,0]}})", 0)),
        "overflows");
    expect_contains(error(with_header(R"({"__metadata__":{"a":1}})", 0)), "is not a text");
    expect_contains(error(std::string(8, '\xff') + "{}"), "does not fit");
}

TEST_F(TensorFileTest, AMissingTensorIsNamedWithWhatIsThere) {
    write_tensor_file(folder / "t", example());
    expect_contains(error_of([&] { read_tensor_file(folder / "t").at("latents", folder / "t"); }),
                    "has no tensor 'latents' (it has: a, b,");
}

}  // namespace
}  // namespace diffuse
