#pragma once

#include <filesystem>
#include <string>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "cuda:N". Throws Error for anything else, and where
/// the device named is not there, saying whether LibTorch or the driver is what lacks it.
torch::Device parse_device(const std::string& name);

/// The CUDA that LibTorch is built for, e.g. "13.0"; empty when it is for the CPU only.
std::string cuda_version();

/// Has LibTorch keep on a GPU what is promised of every device: the same seed gives the same bits, and numbers are
/// float32. To be called before anything is computed there.
void make_cuda_exact();

/// x on a device; not defined where x is not. A GPU fetches it when it gets there, and this thread goes on meanwhile.
torch::Tensor to_device(const torch::Tensor& x, torch::Device device);

/// The cores that this process may use: those it is bound to (taskset), as many as its control groups allow (the quota
/// of a container or a service), and no more than OMP_NUM_THREADS.
int64_t usable_cores();

/// Cores' worth of time that control groups allow: the smallest quota of a group and of those it lies in, infinity
/// where there is none. `root`: where they are mounted (/sys/fs/cgroup); `own`: the text of /proc/self/cgroup. Version
/// 2 (cpu.max) and version 1 (cpu.cfs_quota_us); see cgroups(7).
double cores_of_control_groups(const std::filesystem::path& root, const std::string& own);

/// Sets the number of CPU threads of LibTorch for this thread and those started later; 0 takes `usable_cores` (LibTorch
/// 1.13 by itself takes half of them).
void set_threads(int64_t threads);

/// Sends what LibTorch warns of in this thread through the log (log.hpp), a line each.
void log_libtorch_warnings();

}  // namespace diffuse
