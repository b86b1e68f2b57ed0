#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "diffuse/base/torch.hpp"

namespace c10 {
class ThreadPool;
}

namespace diffuse {

/// Threads that use LibTorch single-threaded: cores then share nothing but the work, and no result depends on how many
/// they are. They live as long as the object, and with them the memory that operators keep for each thread.
class Workers {
public:
    explicit Workers(int64_t threads);
    ~Workers();
    /// Calls work(0) .. work(count - 1), each on one of the threads, and waits for all. The first exception ends the
    /// rest and is thrown here.
    void for_each(int64_t count, const std::function<void(int64_t)>& work);

private:
    int64_t threads_;
    std::unique_ptr<c10::ThreadPool> pool_;
};

/// Calls work(0) .. work(count - 1), perhaps on several threads, and waits for all.
using ForEach = std::function<void(int64_t count, const std::function<void(int64_t)>& work)>;
inline void one_by_one(int64_t count, const std::function<void(int64_t)>& work) {
    for (int64_t i = 0; i < count; ++i) work(i);
}

/// Calls work(first, size) for each group of `group` out of `count` examples; `size` is less for the last. On a CPU on
/// up to `threads` threads, a group on one; on a GPU one after the other on this thread, as all threads draw the noise.
void for_each_group(int64_t count, int64_t group, torch::Device device, int64_t threads,
                    const std::function<void(int64_t first, int64_t size)>& work);

/// The examples first .. first + group - 1 of `all`, after its end the last one again, so that no kernel sees groups of
/// another shape.
torch::Tensor group_of(const torch::Tensor& all, int64_t first, int64_t group);

/// Keeps LibTorch's own threads asleep as long as it lives: they would spin beside workers that keep the cores busy.
class SingleThreaded {
public:
    SingleThreaded();
    ~SingleThreaded();
    SingleThreaded(const SingleThreaded&) = delete;
    SingleThreaded& operator=(const SingleThreaded&) = delete;

private:
    const int before_;
};

}  // namespace diffuse
