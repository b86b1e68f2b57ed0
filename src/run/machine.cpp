#include "diffuse/run/machine.hpp"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <torch/version.h>

#include <fstream>

#include "diffuse/base/device.hpp"
#include "diffuse/ops/instruction_set.hpp"

namespace diffuse {
namespace {

/// The functions of CUDA's driver that name its devices, as in cuda.h, which few machines have.
struct Driver {
    int (*init)(unsigned) = nullptr;
    int (*count)(int*) = nullptr;
    int (*device)(int*, int) = nullptr;
    int (*name)(char*, int, int) = nullptr;

    Driver() {
        void* const library = dlopen("libcuda.so.1", RTLD_NOW);
        if (!library) return;
        find(library, "cuInit", init);
        find(library, "cuDeviceGetCount", count);
        find(library, "cuDeviceGet", device);
        find(library, "cuDeviceGetName", name);
    }
    bool usable() const { return init && count && device && name && init(0) == 0; }

private:
    template <class Function>
    static void find(void* library, const char* symbol, Function& function) {
        function = reinterpret_cast<Function>(dlsym(library, symbol));
    }
};

}  // namespace

std::string cpu_field(const std::string& name) {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        const size_t colon = line.find(": ");
        if (line.starts_with(name) && colon != std::string::npos) return line.substr(colon + 2);
    }
    return "";
}

std::string cpu_model() {
    const std::string name = cpu_field("model name");
    return name.empty() ? "unknown CPU" : name;
}

std::vector<std::string> gpu_names() {
    const Driver driver;
    int count = 0;
    if (!driver.usable() || driver.count(&count) != 0) return {};
    std::vector<std::string> names(size_t(count), "unknown GPU");
    for (int i = 0; i < count; ++i) {
        char name[256] = {};
        int device = 0;
        if (driver.device(&device, i) == 0 && driver.name(name, sizeof(name) - 1, device) == 0) names[size_t(i)] = name;
    }
    return names;
}

std::string vector_units() {
    // LibTorch 1.13 only tells it in this text, in a line "CPU capability usage: AVX2".
    const std::string config = at::show_config(), key = "CPU capability usage: ";
    const size_t begin = config.find(key);
    if (begin == std::string::npos) return "unknown";
    return config.substr(begin + key.size(), config.find('\n', begin) - begin - key.size());
}

std::string kernel_units() { return kernels::instruction_set(); }

std::string describe(torch::Device device) {
    if (device.is_cuda()) {
        const auto names = gpu_names();
        const auto index = size_t(device.index());
        return fmt::format("LibTorch {} for CUDA {} on an {}", TORCH_VERSION, cuda_version(),
                           index < names.size() ? names[index] : "unknown GPU");
    }
    return fmt::format("LibTorch {} on {} ({}; LibTorch uses {}, diffuse {})", TORCH_VERSION, device.str(), cpu_model(),
                       vector_units(), kernel_units());
}

std::string describe_use(torch::Device device) {
    return fmt::format("{} with {} threads", describe(device), at::get_num_threads());
}

}  // namespace diffuse
