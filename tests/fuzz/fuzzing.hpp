#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>

#include "../memory_file.hpp"
#include "diffuse/base/error.hpp"

namespace diffuse {

/// Gives a reader bytes as a file. It may read them or throw Error; all else is for libFuzzer to report.
inline int offer(const uint8_t* data, size_t size, const std::function<void(const std::filesystem::path&)>& reader) {
    const MemoryFile file({reinterpret_cast<const char*>(data), size});
    try {
        reader(file.path());
    } catch (const Error&) {
    }
    return 0;
}

}  // namespace diffuse
