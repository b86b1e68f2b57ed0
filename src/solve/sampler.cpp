#include "diffuse/solve/sampler.hpp"

#include <fmt/format.h>

#include "diffuse/base/device.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/processes.hpp"
#include "diffuse/base/random.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

/// Examples worked on together. Eight images of MNIST's size keep one core's caches busy without leaving them, and so
/// do thousands of points in the plane; a GPU wants more, and has memory for so many at once as were asked for.
int64_t group_size(const Sampler& sampler, const Tensor& x) {
    if (sampler.alone) return 1;
    const int64_t numbers = std::max<int64_t>(1, x[0].numel());
    if (sampler.device.is_cpu()) return std::clamp<int64_t>(8 * 784 / numbers, 8, 4096);
    return sampler.max_in_flight > 0 ? sampler.max_in_flight : std::clamp<int64_t>(256 * 784 / numbers, 32, 131'072);
}

/// What may be done where samples are no longer finite.
std::string remedy(const Condition& condition) {
    constexpr double kFar = 10;  // standard deviations
    if (condition.numbers.defined() && condition.numbers.abs().max().item<double>() > kFar) {
        return "their condition is far from all that the network was trained on; take one that is nearer";
    }
    return "the steps are too long for this network; more of them, another solver, or in sampling clipping may help";
}

/// Throws Error naming the first step after which a group was no longer finite. On the CPU it looks after each step; on
/// a GPU, which it would have to wait for, at the end.
class FiniteGuard {
public:
    explicit FiniteGuard(const Condition& condition) : condition_(condition) {}
    void check(const Tensor& x) {
        finite_.push_back(x.isfinite().all());
        if (x.is_cpu() && !finite_.back().item<bool>()) finish();
    }
    void finish() const {
        const auto finite = torch::stack(finite_).cpu();
        for (int64_t step = 0; step < finite.size(0); ++step) {
            if (finite[step].item<bool>()) continue;
            throw Error(fmt::format("the samples are no longer finite after step {}; {}", step + 1, remedy(condition_)),
                        kRunFailed);
        }
    }

private:
    const Condition& condition_;
    std::vector<Tensor> finite_;  ///< after each step, a bool each
};

/// A sampler at work on x.
class Run {
public:
    Run(const Sampler& sampler, const Tensor& x)
        : sampler_(sampler), x_(x), group_(group_size(sampler, x)), groups_((x.size(0) + group_ - 1) / group_) {
        TORCH_INTERNAL_ASSERT(!sampler.condition.defined() || sampler.condition.size() == x.size(0));
    }

    Samples all() {
        result_.x = torch::empty_like(x_);
        if (sampler_.solver()->second_state()) result_.second_states = torch::empty_like(x_);
        const int64_t at_once = sampler_.max_in_flight > 0 ? (sampler_.max_in_flight + group_ - 1) / group_ : groups_;
        const auto [begin, end] = share();
        const int64_t before = begin * group_, own = std::min(end * group_, x_.size(0)) - before;
        for_each_group(own, group_, sampler_.device, std::min(at_once, sampler_.threads),
                       [&](int64_t first, int64_t size) { take_along(before + first, size); });
        result_.nfe = evaluations() / (groups_ * group_);
        return result_;
    }

private:
    /// The groups of this process.
    processes::Share share() const {
        if (!sampler_.shared) return {0, groups_};
        return processes::share_of(groups_, processes::rank());
    }
    /// Takes in what other processes have, and returns how often all of them called the network.
    int64_t evaluations() {
        if (!sampler_.shared || processes::count() == 1) return evaluations_.count();
        processes::agree();
        processes::complete(result_.x, group_);
        if (result_.second_states.defined()) processes::complete(result_.second_states, group_);
        const auto counts = torch::zeros({processes::count()}, torch::kFloat64);
        counts[processes::rank()] = double(evaluations_.count());
        processes::complete(counts);
        return int64_t(counts.sum().item<double>());
    }
    /// From the first level to the last.
    void take_along(int64_t first, int64_t size) {
        FiniteGuard guard(sampler_.condition);
        const auto noise = [&](int64_t step, int64_t k) { return drawn(first, step_draw(step, k)); };
        const auto observe = [&](int64_t steps_done, const Tensor& state) {
            guard.check(state);
            if (first == 0) record(steps_done, state, size);
            sampler_.progress(++done_, groups_ * steps());
        };
        const auto solver = sampler_.solver();
        if (sampler_.second_states.defined()) {
            *solver->second_state() = part(sampler_.second_states, first) * scale_of(sampler_.grid.front());
        }
        const auto start = part(x_, first) * scale_of(sampler_.grid.front());
        if (first == 0) record(0, start, size);
        const auto end = integrate(*solver, denoiser(first, evaluations_), start, sampler_.grid, noise, observe);
        guard.finish();
        const double scale = scale_of(sampler_.grid.back());
        keep(result_.x, end / scale, first, size);
        if (solver->second_state()) keep(result_.second_states, *solver->second_state() / scale, first, size);
    }

    /// That of a group, so that solvers need to know nothing of conditions.
    StepDenoiser denoiser(int64_t first, const Counter& evaluations) const {
        return sampler_.denoiser(group_of(sampler_.condition, first, group_).to(sampler_.device), evaluations);
    }
    int64_t steps() const { return int64_t(sampler_.grid.size()) - 1; }
    Tensor to_work(const Tensor& x) const { return to_device(x, sampler_.device).to(torch::kFloat64); }
    Tensor part(const Tensor& all, int64_t first) const { return to_work(group_of(all, first, group_)); }
    Tensor drawn(int64_t first, int64_t draw) const {
        return to_work(sampling_noise(sampler_.seed, first, group_, x_.sizes().slice(1), draw));
    }
    static void keep(const Tensor& into, const Tensor& group, int64_t first, int64_t size) {
        into.narrow(0, first, size).copy_(group.narrow(0, 0, size));
    }
    void record(int64_t step, const Tensor& state, int64_t size) {
        if (!sampler_.record || step == steps()) return;
        const NoiseLevel &level = sampler_.grid[size_t(step)], &next = sampler_.grid[size_t(step) + 1];
        const auto x0 = denoiser(/*first=*/0, /*evaluations=*/{})(level, next)(state, level).x0;
        sampler_.record((state / scale_of(level)).narrow(0, 0, size).cpu(), x0.narrow(0, 0, size).cpu());
    }

    const Sampler& sampler_;
    const Tensor& x_;
    const int64_t group_, groups_;
    Counter evaluations_;
    std::atomic<int64_t> done_{0};
    Samples result_;
};

}  // namespace

Tensor sampling_noise(uint64_t seed, int64_t first, int64_t count, torch::IntArrayRef shape, int64_t draw) {
    return normal_images(seed, Purpose::kSamplingNoise, first, count, shape, draw);
}

int64_t step_draw(int64_t step, int64_t k) {
    TORCH_INTERNAL_ASSERT(step + 1 < 1 << 20 && k < 1 << 12);
    return (step + 1) | k << 20;
}

Samples run(const Sampler& sampler, const Tensor& x) { return Run(sampler, x).all(); }

}  // namespace diffuse
