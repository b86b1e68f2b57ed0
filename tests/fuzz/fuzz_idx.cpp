#include "diffuse/data/idx.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    return diffuse::offer(data, size, [](const auto& path) { diffuse::read_idx(path, 3); });
}
