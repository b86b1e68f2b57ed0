#include <cmath>

#include "solve/kinds.hpp"

namespace diffuse {
namespace {

constexpr double kSnr = 0.16;  // Song et al. 2021, appendix G

/// The reverse-diffusion sampler (Song et al. 2021, arXiv:2011.13456, eq. 46): where the process steps by
/// x_t = a x_s + b z, its reverse steps by x_s = x_t - (a - 1) x_t + b^2 score + b z. Here a = alpha_t / alpha_s and
/// b^2 = sigma_t^2 - a^2 sigma_s^2, for any two levels.
torch::Tensor reverse_step(const Prediction& prediction, const torch::Tensor& x, const NoiseLevel& from,
                           const NoiseLevel& to, const Noise& noise) {
    if (to.sigma == 0) return prediction.x0;
    const double a = from.alpha / to.alpha, b2 = from.sigma * from.sigma - a * a * to.sigma * to.sigma;
    return (2 - a) * x - b2 / from.sigma * prediction.eps + std::sqrt(b2) * noise(0);
}

class ReverseDiffusion : public Solver {
public:
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise& noise) override {
        return reverse_step(denoiser(x, from), x, from, to, noise);
    }
};

/// Predictor-corrector (Song et al. 2021, algorithms 2 to 5): a step of reverse diffusion, then one of Langevin
/// dynamics at the level reached, x + h score + sqrt(2 h) z, with h = 2 (snr |z| / |score|)^2. The paper takes the
/// means of both norms over a batch; here they are the expected ones in D numbers, sqrt(D) and sqrt(D) / sigma, the
/// latter of data that are thin beside the noise, as images are. So h = 2 (snr sigma)^2 depends on no example: an
/// example's own |score| is next to nothing by chance where there are few numbers, and such a step draws another
/// distribution.
class PredictorCorrector : public Solver {
public:
    explicit PredictorCorrector(double snr) : snr_(snr) {}

    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel& to,
                       const Noise& noise) override {
        const auto predicted = reverse_step(denoiser(x, from), x, from, to, noise);
        if (to.sigma == 0) return predicted;
        const double h = 2 * snr_ * snr_ * to.sigma * to.sigma;
        return predicted - h / to.sigma * denoiser(predicted, to).eps + std::sqrt(2 * h) * noise(1);
    }

private:
    double snr_;
};

}  // namespace

SolverKind reverse_diffusion_solver() {
    return {.make = make<ReverseDiffusion>, .default_steps = 200, .stochastic = true};
}

SolverKind predictor_corrector_solver() {
    return {.make = [](const SolverOptions& o) { return std::make_unique<PredictorCorrector>(o.snr.value_or(kSnr)); },
            .evaluations = 2,
            .default_steps = 100,
            .stochastic = true,
            .fields =
                [](SolverOptions& o) {
                    return Fields{
                        solver_option("snr", {&o.snr, 0, 10}, kSnr, "signal-to-noise ratio of the Langevin steps")};
                }};
}

}  // namespace diffuse
