#include "diffuse/parallel.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace diffuse {

void parallel_for_each(int64_t count, int64_t threads, const std::function<void(int64_t)>& work) {
    std::atomic<int64_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_mutex;
    const auto worker = [&] {
        at::set_num_threads(1);
        try {
            for (int64_t i = next++; i < count; i = next++) work(i);
        } catch (...) {
            next = count;
            const std::lock_guard lock(failure_mutex);
            failure = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> pool;
        for (int64_t i = 0; i < std::min(threads, count); ++i) pool.emplace_back(worker);
    }
    if (failure) std::rethrow_exception(failure);
}

}  // namespace diffuse
