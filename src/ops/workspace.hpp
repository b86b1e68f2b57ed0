#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#include "diffuse/base/torch.hpp"
#include "ops/simd/kernels.hpp"

namespace diffuse {

/// Memory for intermediate results of one operator, kept by each thread from call to call.
class Workspace {
public:
    Workspace() = default;
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    ~Workspace() { std::free(data_); }

    /// Forgets what was taken and makes room for `size` numbers, each piece of which is rounded up to 16.
    void reserve(int64_t size) {
        taken_ = 0;
        if (size <= size_) return;
        std::free(data_);
        size_ = 0;
        data_ = static_cast<float*>(std::aligned_alloc(64, size_t(kernels::round_up(size, 16)) * sizeof(float)));
        if (!data_) throw std::bad_alloc();
        size_ = kernels::round_up(size, 16);
    }
    float* take(int64_t size) {
        float* const result = data_ + taken_;
        taken_ += kernels::round_up(size, 16);
        TORCH_INTERNAL_ASSERT(taken_ <= size_);
        return result;
    }

private:
    float* data_ = nullptr;
    int64_t size_ = 0, taken_ = 0;
};

inline Workspace& workspace() {
    thread_local Workspace space;
    return space;
}

}  // namespace diffuse
