#include "diffuse/device.hpp"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <fstream>
#include <thread>

#include "diffuse/error.hpp"
#include "diffuse/log.hpp"
#include "ops/kernels.hpp"

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

}  // namespace

torch::Device parse_device(const std::string& name) {
    const int64_t gpus = torch::cuda::is_available() ? int64_t(torch::cuda::device_count()) : 0;
    if (name == "cpu" || (name == "auto" && gpus == 0)) return torch::kCPU;
    const bool numbered = name.starts_with("cuda:") && name.size() > 5 && name.size() < 8 &&
                          name.find_first_not_of("0123456789", 5) == std::string::npos;
    if (name != "auto" && name != "cuda" && !numbered) {
        throw Error(fmt::format("unknown device '{}'; expected auto, cpu, cuda or cuda:N", name));
    }
    const int64_t index = numbered ? std::stoll(name.substr(5)) : 0;
    if (index >= gpus) {
        throw Error(fmt::format("no device '{}': LibTorch sees {} CUDA devices; use --device cpu", name, gpus));
    }
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

std::string vector_units() {
    // LibTorch 1.13 only tells it in this text, in a line "CPU capability usage: AVX2".
    const std::string config = at::show_config(), key = "CPU capability usage: ";
    const size_t begin = config.find(key);
    if (begin == std::string::npos) return "unknown";
    return config.substr(begin + key.size(), config.find('\n', begin) - begin - key.size());
}

std::string kernel_units() { return kernels::instruction_set(); }

std::string describe(torch::Device device) {
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
