#pragma once

#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "cuda:N". Throws Error for anything else, and where
/// the device named is not there, saying whether LibTorch or the driver is what lacks it.
torch::Device parse_device(const std::string& name);

/// "LibTorch 2.13.0 on cpu (AMD EPYC; LibTorch uses AVX512, diffuse AVX3) with 2 threads" or "LibTorch 2.14.1 for CUDA
/// 13.0 on an NVIDIA H100 PCIe": what the last digits of a result depend on. LibTorch's libraries choose by the CPU's
/// maker too, not by its vector units alone.
std::string describe(torch::Device device);

/// The CPU's vector units that LibTorch uses, e.g. "AVX2".
std::string vector_units();

/// Those that this program's own operators use, by Highway's names: "AVX3" is AVX-512.
std::string kernel_units();

/// The value of a field of /proc/cpuinfo, of the first processor that has it; empty where there is none.
std::string cpu_field(const std::string& name);

/// The CPU's name, e.g. "AMD EPYC".
std::string cpu_model();

/// The CUDA that LibTorch is built for, e.g. "13.0"; empty when it is for the CPU only.
std::string cuda_version();

/// The models of the machine's GPUs, in the order of CUDA's numbers, whatever LibTorch is built for: NVIDIA's driver is
/// asked. Empty where there is none.
std::vector<std::string> gpu_names();

/// Has LibTorch keep on a GPU what is promised of every device: the same seed gives the same bits, and numbers are
/// float32. To be called before anything is computed there.
void make_cuda_exact();

/// x on a device. A GPU fetches it when it gets there, and this thread goes on meanwhile.
torch::Tensor to_device(const torch::Tensor& x, torch::Device device);

/// Sets the number of CPU threads of LibTorch for this thread and those started later; 0 takes every core (LibTorch
/// 1.13 by itself takes half of them).
void set_threads(int64_t threads);

/// Sends what LibTorch warns of in this thread through the log (log.hpp), a line each.
void log_libtorch_warnings();

}  // namespace diffuse
