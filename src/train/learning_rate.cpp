#include "diffuse/train/learning_rate.hpp"

#include <cmath>
#include <numbers>

#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

using Decay = double (*)(double fraction);  ///< of the steps after warm-up, 0 to 1, to a factor
const Table<Decay>& decays() {
    static const Table<Decay> table = {
        {"cosine", [](double fraction) { return 0.5 * (1 + std::cos(std::numbers::pi * fraction)); }},
        {"linear", [](double fraction) { return 1 - fraction; }},
        {"none", [](double) { return 1.0; }},
    };
    return table;
}

}  // namespace

LearningRate make_learning_rate(const TrainOptions& options, double rate) {
    const Decay decay = look_up("decay", decays(), options.decay);
    const double span = double(std::max<int64_t>(1, options.steps - options.warmup_steps));
    return [=, warmup = options.warmup_steps](int64_t step) {
        if (step <= warmup) return rate * double(step) / double(warmup);
        return rate * decay(double(step - 1 - warmup) / span);
    };
}

std::vector<std::string> decay_names() { return names(decays()); }

}  // namespace diffuse
