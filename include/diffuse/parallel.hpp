#pragma once

#include <cstdint>
#include <functional>

namespace diffuse {

/// Calls work(0) .. work(count - 1), up to `threads` at a time, each call on a thread that uses LibTorch
/// single-threaded: cores then share nothing but the work, and no result depends on how many they are. The first
/// exception ends the rest and is thrown here.
void parallel_for_each(int64_t count, int64_t threads, const std::function<void(int64_t)>& work);

}  // namespace diffuse
