#include "diffuse/base/tensor_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <bit>
#include <cstring>

#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

using Json = nlohmann::json;
static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

constexpr uintmax_t kMaxFileBytes = uintmax_t{16} << 30;
constexpr uint64_t kMaxHeaderBytes = 16 << 20;  // a hundred times that of our largest network

const Table<torch::ScalarType>& types() {
    static const Table<torch::ScalarType> table = {
        {"F32", torch::kFloat32},   {"F64", torch::kFloat64}, {"F16", torch::kFloat16},
        {"BF16", torch::kBFloat16}, {"I64", torch::kInt64},   {"I32", torch::kInt32},
        {"I16", torch::kInt16},     {"I8", torch::kInt8},     {"U8", torch::kUInt8}};
    return table;
}

/// Bytes of an element of the types that the format has besides: tensors of these are checked, but not kept.
const Table<uint64_t>& other_types() {
    static const Table<uint64_t> table = {{"BOOL", 1},    {"U16", 2},     {"U32", 4},     {"U64", 8},
                                          {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"C64", 8}};
    return table;
}

std::string type_name(torch::ScalarType type) {
    for (const auto& [name, value] : types()) {
        if (value == type) return name;
    }
    TORCH_INTERNAL_ASSERT(false, "no safetensors name for ", type);
}

/// The fields of the format come in this order in every file that others write; ours keeps it.
std::string header_of(const TensorFile& file) {
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
    uint64_t offset = 0;
    for (const auto& [name, tensor] : file.tensors) {
        const uint64_t end = offset + tensor.nbytes();
        header[name] = {{"dtype", type_name(tensor.scalar_type())},
                        {"shape", tensor.sizes().vec()},
                        {"data_offsets", {offset, end}}};
        offset = end;
    }
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');  // aligns the data for readers that map the file
    return text;
}

/// Reads the parts of a file; every failure begins with its name.
class Parser {
public:
    Parser(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

    TensorFile parse() {
        const Json header = read_header();
        TensorFile file;
        for (const auto& [name, entry] : header.items()) {
            if (name == "__metadata__") {
                file.metadata = metadata(entry);
            } else if (const auto read = tensor(name, entry); read.defined()) {
                file.tensors[name] = read;
            }
        }
        check_coverage();
        return file;
    }

    /// What the first bytes say of the header's length. Throws where they begin no such file.
    uint64_t header_size() const {
        uint64_t size = 0;
        if (bytes_.size() < 8) fail(fmt::format("{} bytes, shorter than its header's length", bytes_.size()));
        std::memcpy(&size, bytes_.data(), 8);
        if (size > kMaxHeaderBytes) fail(fmt::format("a header of {} bytes does not fit", size));
        if (bytes_.size() > 8 && bytes_[8] != '{') fail("the header does not start with '{'");
        return size;
    }

private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error(fmt::format("{}: not a valid safetensors file: {}", name_, what));
    }

    Json read_header() {
        const uint64_t size = header_size();
        if (size > bytes_.size() - 8) fail(fmt::format("a header of {} bytes does not fit", size));
        data_ = bytes_.substr(8 + size);
        const std::string_view text = bytes_.substr(8, size);
        Json header = parse_json(text, fmt::format("{}: not a valid safetensors file: its header", name_));
        if (!header.is_object()) fail("the header is not a JSON object");
        return header;
    }

    std::map<std::string, std::string> metadata(const Json& entry) const {
        std::map<std::string, std::string> result;
        if (!entry.is_object()) fail("__metadata__ is not an object");
        for (const auto& [key, value] : entry.items()) {
            if (!value.is_string()) fail(fmt::format("__metadata__ '{}' is not a text", key));
            result[key] = value.get<std::string>();
        }
        return result;
    }

    std::vector<uint64_t> numbers(const std::string& name, const Json& entry, const char* key) const {
        const bool present = entry.is_object() && entry.contains(key) && entry[key].is_array();
        if (!present) fail(fmt::format("tensor '{}' has no list '{}'", name, key));
        std::vector<uint64_t> result;
        for (const auto& number : entry[key]) {
            if (!number.is_number_unsigned()) fail(fmt::format("tensor '{}': '{}' holds {}", name, key, number.dump()));
            result.push_back(number.get<uint64_t>());
        }
        return result;
    }

    /// Not defined for one of the types that are not kept.
    torch::Tensor tensor(const std::string& name, const Json& entry) {
        const auto offsets = numbers(name, entry, "data_offsets"), sizes = numbers(name, entry, "shape");
        if (entry.size() != 3 || !entry.contains("dtype") || !entry["dtype"].is_string()) {
            fail(fmt::format("tensor '{}' must have just dtype, shape and data_offsets", name));
        }
        const std::string dtype = entry["dtype"].get<std::string>();
        const auto* type = find(types(), dtype);
        const auto* size_of_other = find(other_types(), dtype);
        if (!type && !size_of_other) fail(fmt::format("tensor '{}' has dtype {}, which is none", name, dtype));
        if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_.size()) {
            fail(fmt::format("tensor '{}' lies outside the file's {} bytes of data", name, data_.size()));
        }
        uint64_t bytes = type ? c10::elementSize(*type) : *size_of_other;
        uint64_t extent = bytes;  // as if no size were 0, since LibTorch computes strides even of empty tensors
        for (const uint64_t size : sizes) {
            bytes *= size;
            if (__builtin_mul_overflow(extent, std::max<uint64_t>(size, 1), &extent) || extent > uint64_t{INT64_MAX}) {
                fail(fmt::format("the size of tensor '{}' overflows", name));
            }
        }
        if (bytes != offsets[1] - offsets[0]) {
            fail(fmt::format("tensor '{}' has {} bytes, its shape needs {}", name, offsets[1] - offsets[0], bytes));
        }
        if (bytes > 0) extents_.emplace_back(offsets[0], offsets[1]);
        if (!type) return {};
        auto result = torch::empty(std::vector<int64_t>(sizes.begin(), sizes.end()), *type);
        if (bytes > 0) std::memcpy(result.data_ptr(), data_.data() + offsets[0], bytes);
        return result;
    }

    void check_coverage() {
        std::sort(extents_.begin(), extents_.end());
        uint64_t covered = 0;
        for (const auto& [begin, end] : extents_) {
            if (begin != covered)
                fail(fmt::format("the tensors {} at byte {} of the data", begin < covered ? "overlap" : "leave a gap",
                                 covered));
            covered = end;
        }
        if (covered != data_.size())
            fail(fmt::format("{} bytes at the end belong to no tensor", data_.size() - covered));
    }

    std::string_view bytes_, data_;
    const std::string& name_;
    std::vector<std::pair<uint64_t, uint64_t>> extents_;
};

}  // namespace

const torch::Tensor& TensorFile::at(const std::string& name, const std::filesystem::path& path) const {
    const auto found = tensors.find(name);
    if (found != tensors.end()) return found->second;
    std::vector<std::string> present;
    for (const auto& [key, tensor] : tensors) present.push_back(key);
    if (present.size() > 10) present.resize(10);
    throw Error(fmt::format("{}: has no tensor '{}' (it has: {})", display_path(path), name, fmt::join(present, ", ")));
}

void write_tensor_file(const std::filesystem::path& path, const TensorFile& file) {
    const std::string header = header_of(file);
    const uint64_t size = header.size();
    write_file(path, [&](const Put& put) {
        put({reinterpret_cast<const char*>(&size), 8});
        put(header);
        for (const auto& [name, tensor] : file.tensors) {
            const auto data = tensor.contiguous();
            put({static_cast<const char*>(data.data_ptr()), data.nbytes()});
        }
    });
}

TensorFile read_tensor_file(const std::filesystem::path& path) {
    const std::string name = display_path(path), begin = read_beginning(path, 9);
    if (begin.size() == 9) Parser(begin, name).header_size();  // before gigabytes are read of something else
    return parse_tensor_file(read_file(path, kMaxFileBytes), name);
}

TensorFile parse_tensor_file(std::string_view bytes, const std::string& name) { return Parser(bytes, name).parse(); }

}  // namespace diffuse
