#include "diffuse/run/metrics.hpp"

#include <algorithm>

namespace diffuse {

void MetricsWindow::add_step(double batch_loss, double norm) {
    loss += batch_loss;
    grad_norm += norm;
    ++steps;
}

void MetricsWindow::add_example(double position, double example_loss) {
    const size_t bin = std::min(kLevelBins - 1, size_t(position * double(kLevelBins)));
    level_loss[bin] += example_loss;
    ++level_count[bin];
}

std::array<double, kLevelBins> MetricsWindow::mean_level_loss() const {
    std::array<double, kLevelBins> means{};
    for (size_t i = 0; i < kLevelBins; ++i) means[i] = level_loss[i] / level_count[i];
    return means;
}

nlohmann::ordered_json to_json(const Metrics& metrics) {
    nlohmann::ordered_json line;
    line["step"] = metrics.step;
    line["images"] = metrics.images;
    line["loss"] = metrics.loss;
    line["level_loss"] = metrics.level_loss;
    if (metrics.validation_loss) line["validation_loss"] = *metrics.validation_loss;
    line["grad_norm"] = metrics.grad_norm;
    line["learning_rate"] = metrics.learning_rate;
    line["bad_steps"] = metrics.bad_steps;
    line["images_per_second"] = metrics.images_per_second;
    line["wall_seconds"] = metrics.wall_seconds;
    return line;
}

}  // namespace diffuse
