#include "diffuse/solve/likelihood.hpp"

#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <numbers>

#include "diffuse/base/random.hpp"
#include "diffuse/data/dataset.hpp"
#include "solve/adaptive.hpp"
#include "solve/ode.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr double kBinWidth = 1 / 127.5;  ///< of a byte, in [-1, 1]

Tensor sum_of_pixels(const Tensor& x) { return x.flatten(1).sum(1); }

/// log of the standard normal density, summed over the pixels.
Tensor standard_log_density(const Tensor& x) {
    return -0.5 * (sum_of_pixels(x.square()) + double(x[0].numel()) * std::log(2 * std::numbers::pi));
}

/// The bound's noise of time t, of x0's shape.
Tensor bound_noise(const Draws& draws, const Tensor& x0, double t) {
    return normal_images(draws.seed, Purpose::kBoundNoise, draws.first, x0.size(0), x0.sizes().slice(1), int64_t(t))
        .to(x0.options());
}

/// The slope of the ODE at a level, and the divergence of it over y = x / scale.
struct Flow {
    Tensor slope, divergence;
};

Flow flow_at(const Denoiser& denoiser, const OdeForm& ode, const Tensor& x, const NoiseLevel& level,
             const std::vector<Tensor>& probes) {
    const auto input = x.detach().requires_grad_(true);
    const auto slope = ode.slope(denoiser(input, level));
    auto divergence = torch::zeros({x.size(0)}, x.options());
    for (const auto& probe : probes) {
        const auto product = torch::autograd::grad({(slope * probe).sum()}, {input}, {}, /*retain_graph=*/true)[0];
        divergence += sum_of_pixels(product * probe);
    }
    return {slope.detach(), ode.scale(level) * divergence};
}

/// Vectors v with mean(v v^T) = 1, so that the sum of v^T J v is the trace of J: signs, or for the exact trace a one in
/// each place.
std::vector<Tensor> make_probes(const Tensor& x, int64_t count, const Draws& draws) {
    std::vector<Tensor> probes;
    for (int64_t draw = 0; draw < count; ++draw) {
        const auto normals =
            normal_images(draws.seed, Purpose::kProbe, draws.first, x.size(0), x.sizes().slice(1), draw);
        probes.push_back(torch::where(normals >= 0, 1.0, -1.0).to(x.options()) / std::sqrt(double(count)));
    }
    const int64_t dimensions = x[0].numel();
    for (int64_t i = 0; count == 0 && i < dimensions; ++i) {
        const auto one = torch::zeros({dimensions}, x.options());
        one[i] = 1;
        probes.push_back(one.view(x.sizes().slice(1)).expand_as(x));
    }
    return probes;
}

/// Nats of a whole image to bits per dimension.
double bits_per_nat(const Tensor& images) { return 1 / (double(images[0].numel()) * std::numbers::ln2); }

/// log of the probability that a normal variable falls into a byte's bin; the outer bins reach to infinity. Of a bin
/// above the mean it is that of its mirror image, whose two logarithms do not vanish beside 1: so it is exact in the
/// far tails too, and a bound stays one.
Tensor log_probability(const Tensor& bytes, const Tensor& mean, double std) {
    const auto distance = (to_signed(bytes).to(torch::kFloat64) - mean) / std,
               half = torch::full_like(distance, kBinWidth / 2 / std);
    const auto sign = torch::where(distance > 0, -1.0, 1.0).to(torch::kFloat64);
    const auto outer = torch::where(sign < 0, bytes == 0, bytes == 255),
               inner = torch::where(sign < 0, bytes == 255, bytes == 0);
    const auto upper = torch::special_log_ndtr(sign * distance + half).masked_fill(outer, 0);
    const auto lower = torch::special_log_ndtr(sign * distance - half).masked_fill(inner, -INFINITY);
    return upper + torch::log1p(-(lower - upper).exp());
}

/// x on its way, and log p(start) - log p(x).
struct Way {
    Tensor x, gained;
};

/// One step of Heun's method.
Way heun_step(const Denoiser& denoiser, const Way& way, const NoiseLevel& from, const NoiseLevel& to,
              const std::vector<Tensor>& probes) {
    const OdeForm ode(from, to);
    const double h = ode.variable(to) - ode.variable(from), dimensions = double(way.x[0].numel());
    const auto y = way.x / ode.scale(from);
    const auto first = flow_at(denoiser, ode, way.x, from, probes);
    const auto second = flow_at(denoiser, ode, ode.scale(to) * (y + h * first.slope), to, probes);
    return {ode.scale(to) * (y + h / 2 * (first.slope + second.slope)),
            way.gained + h / 2 * (first.divergence + second.divergence) +
                dimensions * std::log(ode.scale(to) / ode.scale(from))};
}

/// As many steps of Dormand and Prince's as the tolerance needs, of x and of the nats of each dimension.
Way adaptive_steps(const Denoiser& denoiser, const Way& way, const NoiseLevel& from, const NoiseLevel& to,
                   const std::vector<Tensor>& probes, double tolerance) {
    const OdeForm ode(from, to);
    const double dimensions = double(way.x[0].numel());
    const Slope slope = [&](double variable, const State& state) -> State {
        const NoiseLevel level = ode.level(variable);
        const auto flow = flow_at(denoiser, ode, ode.scale(level) * state[0], level, probes);
        return {flow.slope, flow.divergence / dimensions};
    };
    const State end = dormand_prince(slope, {way.x / ode.scale(from), torch::zeros_like(way.gained)},
                                     ode.variable(from), ode.variable(to), tolerance);
    return {ode.scale(to) * end[0], way.gained + dimensions * (end[1] + std::log(ode.scale(to) / ode.scale(from)))};
}

}  // namespace

Tensor dequantised(const Tensor& bytes, const Draws& draws) {
    const auto normals = normal_images(draws.seed, Purpose::kDequantisation, draws.first, bytes.size(0),
                                       bytes.sizes().slice(1), /*draw=*/0);
    const auto u = torch::special_ndtr(normals.to(bytes.device(), torch::kFloat64));
    return (bytes.to(torch::kFloat64) + u - 0.5) / 127.5 - 1;
}

Tensor ode_log_density(const Denoiser& denoiser, const Grid& grid, const Tensor& start, int64_t probe_count,
                       const Draws& draws, std::optional<double> tolerance) {
    const auto probes = make_probes(start, probe_count, draws);
    Way way{start, torch::zeros({start.size(0)}, start.options())};
    for (size_t i = 0; i + 1 < grid.size(); ++i) {
        if (!tolerance) {
            way = heun_step(denoiser, way, grid[i], grid[i + 1], probes);
            continue;
        }
        const Grid parts = parts_of_way(grid[i], grid[i + 1]);
        for (size_t k = 0; k + 1 < parts.size(); ++k) {
            way = adaptive_steps(denoiser, way, parts[k], parts[k + 1], probes, *tolerance);
        }
    }
    return standard_log_density(way.x) + way.gained;
}

ReconstructionTerm reconstruction_term(const Denoiser& denoiser, const Grid& chain, const Tensor& bytes,
                                       const Draws& draws) {
    const auto x0 = to_signed(bytes).to(torch::kFloat64);
    const NoiseLevel one = chain[chain.size() - 2];
    const auto eps = bound_noise(draws, x0, one.t);
    const auto x = one.alpha * x0 + one.sigma * eps;
    const auto decoder = sum_of_pixels(log_probability(bytes, denoiser(x, one).x0, one.ratio()));
    return {x, standard_log_density(eps) - double(x0[0].numel()) * std::log(one.sigma), decoder};
}

Tensor bits_per_dim(const Tensor& log_density, int64_t dimensions) {
    return -log_density / (double(dimensions) * std::numbers::ln2) - std::log2(kBinWidth);
}

Tensor ode_bound(const Denoiser& denoiser, const Grid& chain, const Grid& grid, const Tensor& bytes, int64_t probes,
                 const Draws& draws, std::optional<double> tolerance) {
    const ReconstructionTerm first = reconstruction_term(denoiser, chain, bytes, draws);
    const auto log_density = ode_log_density(denoiser, grid, first.x, probes, draws, tolerance);
    return -(first.log_decoder + log_density - first.log_q) * bits_per_nat(bytes);
}

VariationalBound variational_bound(const Denoiser& denoiser, const Grid& chain, const Tensor& bytes,
                                   const Draws& draws) {
    const auto x0 = to_signed(bytes).to(torch::kFloat64);
    const NoiseLevel& start = chain.front();
    const double variance = start.sigma * start.sigma;
    const auto prior = 0.5 * sum_of_pixels((start.alpha * x0).square() + variance - 1 - std::log(variance));
    auto diffusion = torch::zeros_like(prior);
    for (size_t i = 0; i + 2 < chain.size(); ++i) {
        const NoiseLevel &from = chain[i], &to = chain[i + 1];
        const auto eps = bound_noise(draws, x0, from.t);
        const double snr_ratio = std::exp(to.log_snr() - from.log_snr());
        const auto predicted = denoiser(from.alpha * x0 + from.sigma * eps, from).eps;
        diffusion += (snr_ratio - 1) / 2 * sum_of_pixels((eps - predicted).square());
    }
    const auto decoder = -reconstruction_term(denoiser, chain, bytes, draws).log_decoder;
    const double bits = bits_per_nat(bytes);
    return {prior * bits, diffusion * bits, decoder * bits};
}

}  // namespace diffuse
