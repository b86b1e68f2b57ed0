#pragma once

#include <cstdint>
#include <functional>
#include <memory>

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

/// The same on up to `threads` threads of its own.
void parallel_for_each(int64_t count, int64_t threads, const std::function<void(int64_t)>& work);

}  // namespace diffuse
