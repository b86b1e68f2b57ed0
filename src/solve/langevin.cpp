#include <cmath>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

/// Annealed Langevin dynamics (Song & Ermon 2019, arXiv:1907.05600, algorithm 1) in y = x / alpha, where the score is
/// -eps / r: at each level `steps` times y + h score + sqrt(2 h) z with h = step_size r^2, then on to the next level
/// without a step of its own. The last step, to data, takes E[x0 | x] instead (Song & Ermon 2020, arXiv:2006.09011,
/// section 4).
class Langevin : public Solver {
public:
    Langevin(int64_t steps, double step_size) : steps_(steps), step_size_(step_size) {}

    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise& noise) override {
        const double r = from.ratio();
        auto y = x / from.alpha;
        for (int64_t k = 0; k < steps_; ++k) {
            y = y - step_size_ * r * denoiser(from.alpha * y, from).eps + std::sqrt(2 * step_size_) * r * noise(k);
        }
        return to.sigma == 0 ? denoiser(from.alpha * y, from).x0 : to.alpha * y;
    }

private:
    int64_t steps_;
    double step_size_;
};

}  // namespace

std::unique_ptr<Solver> make_langevin(int64_t steps, double step_size) {
    return std::make_unique<Langevin>(steps, step_size);
}

SolverKind langevin_solver() {
    constexpr int64_t kSteps = 5;      // Song & Ermon 2020, table 3
    constexpr double kStepSize = 0.2;  // of r^2: of all, the one that leaves least excess (section 3.4, at 1.1)
    return {.make = [](const SolverOptions&) { return make_langevin(kSteps, kStepSize); },
            .evaluations = kSteps,
            .last_evaluations = kSteps + 1,
            .default_steps = kNcsnLevels,
            .default_spacing = "log-snr",
            .stochastic = true};
}

}  // namespace diffuse
