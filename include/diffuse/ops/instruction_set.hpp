#pragma once

#include <string>
#include <vector>

namespace diffuse::kernels {

/// The instruction set in use, by Highway's name: the best that this CPU has, e.g. "AVX3" (AVX-512), "AVX2", "NEON".
std::string instruction_set();
/// All that the kernels are compiled for and this CPU has, best first.
std::vector<std::string> instruction_sets();
/// For tests: one of those from now on, or the best again (no name). No kernel may be at work meanwhile.
void use_instruction_set(const std::string& name);

}  // namespace diffuse::kernels
