#include <algorithm>

#include "cli/eval.hpp"
#include "diffuse/base/error.hpp"

namespace diffuse::cli {
namespace {

/// Each of `all` with each of `values`; as they are where there are no values.
template <class Value, class Set>
std::vector<SampleOptions> each(const std::vector<SampleOptions>& all, const std::vector<Value>& values, Set set) {
    if (values.empty()) return all;
    std::vector<SampleOptions> result;
    for (const auto& one : all) {
        for (const auto& value : values) set(result.emplace_back(one), value);
    }
    return result;
}

using Levels = std::pair<double, double>;

std::vector<Levels> intervals_of(const std::vector<double>& ends) {
    std::vector<Levels> intervals;
    for (size_t i = 0; i + 1 < ends.size(); i += 2) intervals.emplace_back(ends[i], ends[i + 1]);
    const bool rise = std::ranges::all_of(intervals, [](const auto& one) { return one.first < one.second; });
    if (ends.size() % 2 == 0 && rise) return intervals;
    throw Error("--guidance-interval: expected pairs LO,HI,LO,HI,..., the second number of each larger than the first");
}

}  // namespace

std::vector<SampleOptions> combinations(const EvalOptions& options, const Checkpoint& checkpoint, Direction direction) {
    std::vector<SampleOptions> all = {options.sampling};
    all.front().direction = direction;
    all = each(all, options.solvers, [](SampleOptions& one, const std::string& solver) { one.solver = solver; });
    all = each(all, options.spacings, [](SampleOptions& one, const std::string& spacing) { one.spacing = spacing; });
    all = each(all, intervals_of(options.interval_ends),
               [](SampleOptions& one, const Levels& interval) { one.guidance_interval = interval; });
    all = each(all, options.guidance, [](SampleOptions& one, double scale) { one.guidance = scale; });
    all = each(all, options.steps, [](SampleOptions& one, int64_t steps) { one.steps = steps, one.nfe.reset(); });
    all = each(all, options.nfe, [](SampleOptions& one, int64_t nfe) { one.nfe = nfe, one.steps.reset(); });

    const bool all_plain = std::ranges::all_of(all, [](const auto& one) { return one.guidance == 1; });
    if (!options.interval_ends.empty() && all_plain)
        throw Error("--guidance-interval changes nothing without --guidance");

    std::vector<SampleOptions> different;  // a scale of 1 is the same in every interval
    for (const auto& one : all) {
        const SampleOptions row = without_idle(one);
        if (std::ranges::find(different, row) == different.end()) different.push_back(row);
    }
    const Schedule schedule = make_schedule(checkpoint.config.schedule);
    for (const auto& one : different) {
        check(one);
        make_grid(one, schedule, checkpoint.data.shape.numel());
    }
    return different;
}

}  // namespace diffuse::cli
