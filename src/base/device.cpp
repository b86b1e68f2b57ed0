#include "diffuse/base/device.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "diffuse/base/error.hpp"
#include "diffuse/base/log.hpp"
#include "ops/simd/kernels.hpp"

namespace diffuse {
namespace {

#if TORCH_VERSION_MAJOR < 2
using c10::Warning::set_warning_handler;
struct LoggedWarnings : c10::WarningHandler {
    void process(const c10::SourceLocation&, const std::string& message, bool) override { log::warn(message); }
};
#else
using c10::WarningUtils::set_warning_handler;
struct LoggedWarnings : c10::WarningHandler {
    void process(const c10::Warning& warning) override { log::warn(warning.msg()); }
};
#endif

int64_t usable_gpus() { return torch::cuda::is_available() ? int64_t(torch::cuda::device_count()) : 0; }

/// Why `name` cannot be had, and what to do.
std::string no_device(const std::string& name, int64_t gpus) {
    if (gpus > 0) return fmt::format("no device '{}': there are {} GPUs, cuda:0 to cuda:{}", name, gpus, gpus - 1);
    if (cuda_version().empty()) {
        return fmt::format(
            "no device '{}': this program is built on a LibTorch for the CPU only; build it by "
            "DIFFUSE_LIBTORCH=cuda scripts/build, or use --device cpu",
            name);
    }
    return fmt::format(
        "no device '{}': LibTorch is built for CUDA {}, but NVIDIA's driver gives it no GPU (see "
        "nvidia-smi); use --device cpu",
        name, cuda_version());
}

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

torch::Device parse_device(const std::string& name) {
    const int64_t gpus = usable_gpus();
    if (name == "cpu" || (name == "auto" && gpus == 0)) return torch::kCPU;
    const bool numbered = name.starts_with("cuda:") && name.size() > 5 && name.size() < 8 &&
                          name.find_first_not_of("0123456789", 5) == std::string::npos;
    if (name != "auto" && name != "cuda" && !numbered) {
        throw Error(fmt::format("unknown device '{}'; expected auto, cpu, cuda or cuda:N", name));
    }
    const int64_t index = numbered ? std::stoll(name.substr(5)) : 0;
    if (index >= gpus) throw Error(no_device(name, gpus));
    return {torch::kCUDA, c10::DeviceIndex(index)};
}

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

std::string cuda_version() {
    if (!at::Context::hasCUDART()) return "";
    const long version = at::Context::versionCUDART();  // 1000 major + 10 minor
    return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
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

void make_cuda_exact() {
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);  // else cuBLAS may sum up in another order each time
    auto& context = at::globalContext();
    context.setDeterministicCuDNN(true);
    context.setBenchmarkCuDNN(false);  // which algorithm is the fastest differs from run to run
    context.setAllowTF32CuDNN(false);  // 10 bits of mantissa instead of 23
    context.setAllowTF32CuBLAS(false);
}

torch::Tensor to_device(const torch::Tensor& x, torch::Device device) {
    return device.is_cuda() ? x.pin_memory().to(device, /*non_blocking=*/true) : x.to(device);
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
    return fmt::format("LibTorch {} on {} ({}; LibTorch uses {}, diffuse {}) with {} threads", TORCH_VERSION,
                       device.str(), cpu_model(), vector_units(), kernel_units(), at::get_num_threads());
}

void set_threads(int64_t threads) {
    at::set_num_threads(int(threads > 0 ? threads : std::max(1u, std::thread::hardware_concurrency())));
}

void log_libtorch_warnings() {
    static LoggedWarnings handler;
    set_warning_handler(&handler);
}

}  // namespace diffuse
