#pragma once

#include <string>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// "LibTorch 2.13.0 on cpu (AMD EPYC; LibTorch uses AVX512, diffuse AVX3)" or "LibTorch 2.14.1 for CUDA 13.0 on an
/// NVIDIA H100 PCIe": what the last digits of a result depend on. LibTorch's libraries choose by the CPU's maker too,
/// not by its vector units alone.
std::string describe(torch::Device device);
/// The same, "with 2 threads".
std::string describe_use(torch::Device device);

/// The CPU's vector units that LibTorch uses, e.g. "AVX2".
std::string vector_units();

/// Those that this program's own operators use, by Highway's names: "AVX3" is AVX-512.
std::string kernel_units();

/// The value of a field of /proc/cpuinfo, of the first processor that has it; empty where there is none.
std::string cpu_field(const std::string& name);

/// The CPU's name, e.g. "AMD EPYC".
std::string cpu_model();

/// The models of the machine's GPUs, in the order of CUDA's numbers, whatever LibTorch is built for: NVIDIA's driver is
/// asked. Empty where there is none.
std::vector<std::string> gpu_names();

}  // namespace diffuse
