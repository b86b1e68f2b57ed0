#include "diffuse/base/device.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sched.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

int64_t usable_gpus() { return torch::cuda::is_available() ? int64_t(torch::cuda::device_count()) : 0; }

/// Why `name` cannot be had, and what to do.
std::string no_device(const std::string& name, int64_t gpus) {
    if (gpus > 0) return fmt::format("no device '{}': there are {} GPUs, cuda:0 to cuda:{}", name, gpus, gpus - 1);
    if (cuda_version().empty()) {
        return fmt::format(
            "no device '{}': this program is built on a LibTorch for the CPU only; build it by "
            "DIFFUSE_LIBTORCH=cuda scripts/build, or take the device cpu",
            name);
    }
    return fmt::format(
        "no device '{}': LibTorch is built for CUDA {}, but NVIDIA's driver gives it no GPU (see "
        "nvidia-smi); take the device cpu",
        name, cuda_version());
}

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

std::string cuda_version() {
    if (!at::Context::hasCUDART()) return "";
    const long version = at::Context::versionCUDART();  // 1000 major + 10 minor
    return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
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

int64_t usable_cores() {
    int64_t cores = std::max(1u, std::thread::hardware_concurrency());
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::min<int64_t>(cores, CPU_COUNT(&set));
    double quota = 0, period = 0;  // of a container (cgroup v2), in microseconds; "max" where there is none
    if (std::ifstream("/sys/fs/cgroup/cpu.max") >> quota >> period && period > 0) {
        cores = std::min<int64_t>(cores, int64_t(std::ceil(quota / period)));
    }
#endif
    const char* asked = std::getenv("OMP_NUM_THREADS");
    if (const int64_t count = asked ? std::atoll(asked) : 0; count > 0) cores = std::min(cores, count);
    return std::max<int64_t>(1, cores);
}

void set_threads(int64_t threads) { at::set_num_threads(int(threads > 0 ? threads : usable_cores())); }

void log_libtorch_warnings() {
    static WarningsTo handler(log::warn);
    set_warning_handler(&handler);
}

}  // namespace diffuse
