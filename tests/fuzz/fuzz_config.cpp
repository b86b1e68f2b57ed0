#include "diffuse/run/config.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    return diffuse::offer(data, size, [](const auto& path) { diffuse::load_config(path); });
}
