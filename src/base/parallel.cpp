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

void for_each_group(int64_t count, int64_t group, torch::Device device, int64_t threads,
                    const std::function<void(int64_t first, int64_t size)>& work) {
    const int64_t groups = (count + group - 1) / group;
    const auto work_on = [&](int64_t g) { work(g * group, std::min(group, count - g * group)); };
    if (device.is_cpu()) {
        Workers(std::min(threads, groups)).for_each(groups, work_on);
    } else {
        one_by_one(groups, work_on);
    }
}

torch::Tensor group_of(const torch::Tensor& all, int64_t first, int64_t group) {
    return all.index_select(0, torch::arange(first, first + group).clamp_max(all.size(0) - 1));
}

SingleThreaded::SingleThreaded() : before_(at::get_num_threads()) { at::set_num_threads(1); }

SingleThreaded::~SingleThreaded() { at::set_num_threads(before_); }

}  // namespace diffuse
