#pragma once

#include <string>

#include "diffuse/torch.hpp"

namespace diffuse {

/// "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "cuda:N". Throws Error for anything else, and where
/// the device named is not there.
torch::Device parse_device(const std::string& name);

/// "LibTorch 2.13.0 on cpu (AMD EPYC; LibTorch uses AVX512, diffuse AVX3) with 2 threads": what the last digits of a
/// result depend on. LibTorch's libraries choose by the CPU's maker too, not by its vector units alone.
std::string describe(torch::Device device);

/// The CPU's vector units that LibTorch uses, e.g. "AVX2".
std::string vector_units();

/// Those that this program's own operators use, by Highway's names: "AVX3" is AVX-512.
std::string kernel_units();

/// The value of a field of /proc/cpuinfo, of the first processor that has it; empty where there is none.
std::string cpu_field(const std::string& name);

/// The CPU's name, e.g. "AMD EPYC".
std::string cpu_model();

/// Sets the number of CPU threads of LibTorch for this thread and those started later; 0 takes every core (LibTorch
/// 1.13 by itself takes half of them).
void set_threads(int64_t threads);

/// Sends what LibTorch warns of in this thread through the log (log.hpp), a line each.
void log_libtorch_warnings();

}  // namespace diffuse
