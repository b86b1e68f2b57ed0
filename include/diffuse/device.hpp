#pragma once

#include <string>

#include "diffuse/torch.hpp"

namespace diffuse {

/// "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "cuda:N". Throws Error for anything else, and where
/// the device named is not there.
torch::Device parse_device(const std::string& name);

/// "LibTorch 2.13.0 on cpu (AVX512) with 2 threads": what the last digits of a result depend on.
std::string describe(torch::Device device);

/// The CPU's vector units that LibTorch uses, e.g. "AVX2".
std::string vector_units();

/// Sets the number of CPU threads of LibTorch for this thread and those started later; 0 takes every core (LibTorch
/// 1.13 by itself takes half of them).
void set_threads(int64_t threads);

/// Sends what LibTorch warns of in this thread through the log (log.hpp), a line each.
void log_libtorch_warnings();

}  // namespace diffuse
