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
#include <limits>
#include <sstream>
#include <thread>

#include "diffuse/base/log.hpp"
#include "diffuse/base/processes.hpp"
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

/// Two numbers of microseconds, of which a quota may be "max" or -1: none.
double cores_of(std::istream&& quota, std::istream&& period) {
    double allowed = 0, of = 0;
    const bool limited = quota >> allowed && period >> of && allowed > 0 && of > 0;
    return limited ? allowed / of : std::numeric_limits<double>::infinity();
}

/// Of one group's folder.
double cores_of_group(const std::filesystem::path& folder) {
    std::ifstream both(folder / "cpu.max");
    std::string quota, period;
    both >> quota >> period;
    const double version2 = cores_of(std::istringstream(quota), std::istringstream(period));
    return std::min(version2,
                    cores_of(std::ifstream(folder / "cpu.cfs_quota_us"), std::ifstream(folder / "cpu.cfs_period_us")));
}

}  // namespace

double cores_of_control_groups(const std::filesystem::path& root, const std::string& own) {
    double cores = cores_of_group(root);  // where a container sees its own group as the root
    std::istringstream lines(own);
    for (std::string line; std::getline(lines, line);) {  // "0::/user.slice", "4:cpu,cpuacct:/user.slice"
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos || line[second + 1] != '/') continue;
        const auto mount = root / line.substr(first + 1, second - first - 1);
        auto group = mount / line.substr(second + 2);
        for (; group.native().size() >= mount.native().size(); group = group.parent_path()) {
            cores = std::min(cores, cores_of_group(group));
            if (!group.has_relative_path()) break;
        }
    }
    return cores;
}

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
    if (!x.defined()) return x;
    return device.is_cuda() ? x.pin_memory().to(device, /*non_blocking=*/true) : x.to(device);
}

int64_t usable_cores() {
    int64_t cores = std::max(1u, std::thread::hardware_concurrency());
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::min<int64_t>(cores, CPU_COUNT(&set));
    std::ostringstream own;
    own << std::ifstream("/proc/self/cgroup").rdbuf();
    cores = int64_t(std::min(double(cores), std::ceil(cores_of_control_groups("/sys/fs/cgroup", own.str()))));
#endif
    const char* asked = std::getenv("OMP_NUM_THREADS");
    if (const int64_t count = asked ? std::atoll(asked) : 0; count > 0) cores = std::min(cores, count);
    return std::max<int64_t>(1, cores);
}

void set_threads(int64_t threads) {
    const bool has_all =
        usable_cores() == int64_t(std::thread::hardware_concurrency());  // was bound to none of its own
    const int64_t own = has_all ? std::max<int64_t>(1, usable_cores() / processes::beside()) : usable_cores();
    at::set_num_threads(int(threads > 0 ? threads : own));
}

void log_libtorch_warnings() {
    static WarningsTo handler(log::warn);
    set_warning_handler(&handler);
}

}  // namespace diffuse
