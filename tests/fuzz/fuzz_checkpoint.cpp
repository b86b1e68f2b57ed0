#include "diffuse/run/model.hpp"
#include "fuzzing.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    return diffuse::offer(data, size, [](const auto& path) {
        make_network(diffuse::load_checkpoint(path), diffuse::"ema", torch::kCPU);
    });
}
