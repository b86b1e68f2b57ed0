#include "diffuse/solve/sampler.hpp"

#include <fmt/format.h>

#include <atomic>

#include "diffuse/base/device.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/random.hpp"

namespace diffuse {
namespace {

/// Examples walked together. Eight images of MNIST's size keep one core's caches busy without leaving them, and so do
/// thousands of points in the plane; a GPU wants more, and has memory for so many at once as were asked for.
int64_t group_size(const Walk& walk, const torch::Tensor& x) {
    if (walk.device.is_cpu()) return std::clamp<int64_t>(8 * 784 / std::max<int64_t>(1, x[0].numel()), 8, 4096);
    return walk.most_in_flight > 0 ? walk.most_in_flight : 256;
}

torch::Tensor padded(const torch::Tensor& x, int64_t count) {
    auto shape = x.sizes().vec();
    shape[0] = count;
    auto result = torch::zeros(shape);
    result.narrow(0, 0, x.size(0)).copy_(x);
    return result;
}

/// Throws Error naming the first step after which a group was no longer finite. On the CPU it looks after each step; on
/// a GPU, which it would have to wait for, at the end.
class FiniteGuard {
public:
    void check(const torch::Tensor& x) {
        finite_.push_back(x.isfinite().all());
        if (x.is_cpu() && !finite_.back().item<bool>()) finish();
    }
    void finish() const {
        const auto finite = torch::stack(finite_).cpu();
        for (int64_t step = 0; step < finite.size(0); ++step) {
            if (finite[step].item<bool>()) continue;
            throw Error(fmt::format("the images are no longer finite after step {}; is the checkpoint trained? More "
                                    "--steps or --clip-x0 may help",
                                    step + 1),
                        kRunFailed);
        }
    }

private:
    std::vector<torch::Tensor> finite_;  ///< after each step, a bool each
};

}  // namespace

torch::Tensor sampling_noise(uint64_t seed, int64_t first, int64_t count, torch::IntArrayRef image_shape,
                             int64_t draw) {
    return normal_images(seed, Purpose::kSamplingNoise, first, count, image_shape, draw);
}

int64_t step_draw(int64_t step, int64_t k) {
    TORCH_INTERNAL_ASSERT(step + 1 < 1 << 20 && k < 1 << 12);
    return (step + 1) | k << 20;
}

WalkResult walk_images(const Walk& walk, const torch::Tensor& x) {
    const int64_t count = x.size(0), group = group_size(walk, x), groups = (count + group - 1) / group;
    const int64_t in_flight = walk.most_in_flight > 0 ? (walk.most_in_flight + group - 1) / group : groups;
    const int64_t threads = std::min(in_flight, walk.threads);
    const int64_t steps = int64_t(walk.grid.size()) - 1;
    WalkResult result{torch::empty_like(x)};
    if (walk.solver()->companion()) result.companions = torch::empty_like(x);
    std::atomic<int64_t> evaluations{0}, for_the_record{0}, done{0};
    const Denoiser denoiser = walk.denoiser(evaluations), recording = walk.denoiser(for_the_record);

    const auto walk_group = [&](int64_t g) {
        const int64_t first = g * group, size = std::min(group, count - first);
        const auto part = [&](const torch::Tensor& all) {
            return to_device(padded(all.narrow(0, first, size), group), walk.device).to(torch::kFloat64);
        };
        const auto noise = [&](int64_t step, int64_t k) {
            const auto drawn = sampling_noise(walk.seed, first, group, x.sizes().slice(1), step_draw(step, k));
            return to_device(drawn, walk.device).to(torch::kFloat64);
        };
        const bool recorded = g == 0 && walk.record;
        const auto record = [&](int64_t step, const torch::Tensor& state) {
            if (!recorded || step == steps) return;
            const auto x0 = recording(state, walk.grid[size_t(step)]).x0;
            walk.record(state.narrow(0, 0, size).cpu(), x0.narrow(0, 0, size).cpu());
        };
        FiniteGuard guard;
        const auto observer = [&](int64_t step, const torch::Tensor& state) {
            guard.check(state);
            record(step, state);
            walk.progress(++done, groups * steps);
        };
        const auto solver = walk.solver();
        if (walk.companions.defined()) *solver->companion() = part(walk.companions);
        const auto start = part(x);
        record(0, start);
        const auto out = integrate(*solver, denoiser, start, walk.grid, noise, observer);
        guard.finish();
        result.images.narrow(0, first, size).copy_(out.narrow(0, 0, size));
        if (solver->companion()) {
            result.companions.narrow(0, first, size).copy_(solver->companion()->narrow(0, 0, size));
        }
    };
    if (walk.device.is_cpu()) {
        parallel_for_each(groups, threads, walk_group);
    } else {
        for (int64_t g = 0; g < groups; ++g) walk_group(g);  // all threads draw the noise
    }
    result.nfe = evaluations / (groups * group);
    return result;
}

}  // namespace diffuse
