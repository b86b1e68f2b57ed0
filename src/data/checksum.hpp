#pragma once

#include <zlib.h>

#include <string_view>

#include "diffuse/base/torch.hpp"

namespace diffuse {

inline uint32_t crc32_of(std::string_view bytes) {
    return uint32_t(crc32_z(0, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
}

/// Those of a contiguous tensor, valid as long as it.
inline std::string_view bytes_of(const torch::Tensor& tensor) {
    return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

}  // namespace diffuse
