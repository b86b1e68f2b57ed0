#include "diffuse/run/analytic_model.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "diffuse/base/table.hpp"
#include "diffuse/data/toys.hpp"
#include "diffuse/diffusion/analytic.hpp"

namespace diffuse {
namespace {

Denoiser of_mixture(const Config& config, const Dataset&) {
    const auto mixture = known_mixture(config.dataset);
    if (mixture) return mixture_denoiser(*mixture);
    throw Error(
        fmt::format("mixture: the distribution of data of kind {} is not a mixture that is known; take gaussian or "
                    "empirical",
                    config.dataset.kind));
}

/// Sides of patches by noise: as far as a trained network looks to tell what a pixel is.
int64_t patch_side(const NoiseLevel& level, int64_t image_side) {
    struct UpTo {
        double ratio;
        int64_t side;
    };
    for (const auto& [ratio, side] : {UpTo{0.15, 3}, {0.4, 5}, {0.9, 7}, {1.8, 11}, {4, 15}, {8, 21}}) {
        if (level.ratio() <= ratio) return std::min(side, 2 * image_side - 1);
    }
    return 2 * image_side - 1;
}

Denoiser local(const Config&, const Dataset& train) {
    constexpr int64_t kImages = 1000, kReach = 3;
    if (train.spec.shape.points) throw Error("local compares patches of images, and the data are points");
    const auto some = to_network(train.examples.narrow(0, 0, std::min(kImages, train.size())));
    const int64_t image_side = std::max(train.spec.shape.height, train.spec.shape.width);
    return local_denoiser(some, kReach, [=](const NoiseLevel& level) { return patch_side(level, image_side); });
}

using Make = Denoiser (*)(const Config& config, const Dataset& train);
const Table<Make>& kinds() {
    static const Table<Make> table = {
        {"gaussian",
         [](const Config&, const Dataset& train) { return fitted_gaussian_denoiser(to_network(train.examples)); }},
        {"mixture", of_mixture},
        {"empirical",
         [](const Config&, const Dataset& train) { return empirical_denoiser(to_network(train.examples)); }},
        {"local", local}};
    return table;
}

}  // namespace

std::vector<std::string> analytic_names() { return names(kinds()); }

Model analytic_model(const std::string& name, const Config& config, const Dataset& train) {
    if (train.condition.numbers.defined()) throw Error("no denoiser in closed form takes numbers as its condition");
    const Denoiser exact = on_cpu(look_up("analytic denoiser", kinds(), name)(config, train));
    Model model{
        .denoiser = [exact](const Condition&, const Counter& evaluations) { return counted(exact, evaluations); },
        .schedule = make_schedule(config.schedule),
        .data = train.spec};
    model.data.condition = {};  // it is of no class
    return model;
}

}  // namespace diffuse
