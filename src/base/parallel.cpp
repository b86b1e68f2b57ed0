#include "diffuse/base/parallel.hpp"

#include <ATen/Parallel.h>
#include <c10/core/thread_pool.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>

#include "diffuse/base/device.hpp"

namespace diffuse {

Workers::Workers(int64_t threads)
    : threads_(threads), pool_(std::make_unique<c10::ThreadPool>(int(threads), /*numa_node_id=*/-1, [] {
          at::set_num_threads(1);
          log_libtorch_warnings();
      })) {}

Workers::~Workers() = default;

void Workers::for_each(int64_t count, const std::function<void(int64_t)>& work) {
    std::atomic<int64_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_mutex;
    const auto worker = [&] {
        try {
            for (int64_t i = next++; i < count; i = next++) work(i);
        } catch (...) {
            next = count;
            const std::lock_guard lock(failure_mutex);
            failure = std::current_exception();
        }
    };
    for (int64_t i = 0; i < std::min(threads_, count); ++i) pool_->run(worker);
    pool_->waitWorkComplete();
    if (failure) std::rethrow_exception(failure);
}

void parallel_for_each(int64_t count, int64_t threads, const std::function<void(int64_t)>& work) {
    Workers(std::min(threads, count)).for_each(count, work);
}

}  // namespace diffuse
