#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "lab/experiments.hpp"

/// The heat equation du/dt = u'' (D = 1) on a circle of length 2 pi.
namespace diffuse::lab {
namespace {

using std::numbers::pi;

struct HeatOptions {
    int64_t nodes = 64;
    double ratio = 0.4;
};

Fields fields(HeatOptions& o) {
    return {{"nodes", Number<int64_t>{&o.nodes, 64, 512}, "nodes of the grid, a multiple of 2"},
            {"ratio", Number<double>{&o.ratio, 0.01, 0.5}, "r = D dt / h^2 of explicit Euler where it is stable"}};
}

torch::Tensor circle(int64_t nodes) { return torch::arange(nodes, torch::kFloat64) * (2 * pi / double(nodes)); }

/// sign(sin x)
torch::Tensor jump(int64_t nodes) { return circle(nodes).sin().mul(1e9).clamp(-1, 1); }

/// u + r (its neighbours - u), in each dimension.
torch::Tensor explicit_step(const torch::Tensor& u, double r) {
    auto change = torch::zeros_like(u);
    for (int64_t d = 0; d < u.dim(); ++d) change += u.roll(1, d) + u.roll(-1, d) - 2 * u;
    return u + r * change;
}

torch::Tensor explicit_steps(torch::Tensor u, double r, int64_t count) {
    for (int64_t i = 0; i < count; ++i) u = explicit_step(u, r);
    return u;
}

/// Exact in time: each Fourier mode decays by exp(-k^2 t).
torch::Tensor spectral(const torch::Tensor& u, double t) {
    const auto k = torch::arange(u.size(0) / 2 + 1, torch::kFloat64);
    return torch::fft_irfft(torch::fft_rfft(u) * (-k.square() * t).exp(), u.size(0));
}

/// What explicit Euler makes of mode k in a step: 1 - 4 r sin^2(k h / 2).
double mode_factor(double r, double k, int64_t nodes) {
    return 1 - 4 * r * std::pow(std::sin(pi * k / double(nodes)), 2);
}

double amplitude(const torch::Tensor& u, const torch::Tensor& mode) {
    return ((u * mode).sum() / mode.square().sum()).item<double>();
}

/// sign(sin x) after a time t: an error function at each jump.
double smoothed_step(double x, double t) {
    double u = 0;
    for (int m = -6; m <= 6; ++m) u += (m % 2 ? -1 : 1) * std::erf((x - m * pi) / (2 * std::sqrt(t)));
    return u;
}

/// Of explicit Euler on cos x at t = 1, against exp(-1) cos x.
double error_at_one(int64_t nodes, double r) {
    const double dt = r * std::pow(2 * pi / double(nodes), 2);
    const auto steps = int64_t(std::lround(1 / dt));
    const auto mode = circle(nodes).cos();
    return std::abs(amplitude(explicit_steps(mode, r, steps), mode) - std::exp(-double(steps) * dt));
}

double order(double r) {
    return order_of([=](double h) { return error_at_one(std::lround(2 * pi / h), r); },
                    {2 * pi / 16, 2 * pi / 32, 2 * pi / 64, 2 * pi / 128});
}

void check_modes(Findings& f, const HeatOptions& o) {
    constexpr int64_t kSteps = 50;
    for (const int64_t k : {int64_t(1), o.nodes / 8, o.nodes / 2}) {
        const auto mode = (double(k) * circle(o.nodes)).cos();
        f.check(fmt::format("mode {} after {} steps of explicit Euler", k, kSteps),
                amplitude(explicit_steps(mode, o.ratio, kSteps), mode),
                std::pow(mode_factor(o.ratio, double(k), o.nodes), kSteps), 1e-12, "(1 - 4 r sin²(kh/2))^n; rounding");
    }
    f.check("order in h", order(0.4), 2, 0.1, "Taylor's series");
    f.check("order in h at r = 1/6, where the errors of time and space cancel", order(1.0 / 6), 4, 0.1,
            "Taylor's series: u_tt = u_xxxx");
}

void check_stability(Findings& f) {
    const auto shortest = (circle(64) * 32).cos();
    f.check("the shortest mode at r = 1/2 after 1000 steps", amplitude(explicit_steps(shortest, 0.5, 1000), shortest),
            1, 1e-12, "the factor is -1");
    f.check("its growth at r = 0.51 over 1000 steps, powers of ten",
            std::log10(amplitude(explicit_steps(shortest, 0.51, 1000), shortest)), 1000 * std::log10(1.04), 1e-9,
            "the factor is -1.04");
    const auto row = (circle(32) * 16).cos(), board = row.unsqueeze(0) * row.unsqueeze(1);
    f.check("a step of the checkerboard in two dimensions at r = 1/4", amplitude(explicit_step(board, 0.25), board), -1,
            1e-12, "1 - 8 r: the limit is 1/4");
    f.check("the same at r = 0.26", amplitude(explicit_step(board, 0.26), board), -1.08, 1e-12, "1 - 8 r");
}

void check_shapes(Findings& f, const HeatOptions& o) {
    const auto x = circle(o.nodes) - pi;
    const double h = 2 * pi / double(o.nodes), start = 0.04;
    const auto steps = int64_t(std::ceil(0.05 / (2 * o.ratio * h * h)));
    const double t = double(steps) * o.ratio * h * h;
    const auto bell = (-x.square() / (2 * start)).exp();
    const auto later = explicit_steps(bell, o.ratio, steps);
    f.check("variance of a Gaussian after explicit Euler", ((later * x.square()).sum() / later.sum()).item<double>(),
            start + 2 * t, 1e-9, "s² + 2 D t, exact for the scheme too; the tails");
    f.check("its peak after the spectral method", spectral(bell, t).max().item<double>(),
            std::sqrt(start / (start + 2 * t)), 1e-9, "s / sqrt(s² + 2 D t); the tails");
    constexpr int64_t kFine = 256;
    const double fine_h = 2 * pi / kFine, time = 0.05;
    const auto count = int64_t(std::lround(time / (0.4 * fine_h * fine_h)));
    const auto step = explicit_steps(jump(kFine), 0.4, count);
    f.check("a step, smoothed, at x = pi / 16", step[kFine / 32].item<double>(),
            smoothed_step(pi / 16, double(count) * 0.4 * fine_h * fine_h), 1e-3, "erf(x / sqrt(4 D t)); h²");
}

Exhibit modes_exhibit() {
    Panel panel{"time t", "amplitude of the mode", {}, "", false, /*log_y=*/true};
    const auto times = spaced(0, 1, 11);
    for (const int k : {1, 2, 3, 4}) {
        const auto mode = (double(k) * circle(128)).cos();
        panel.curves.push_back(formula(fmt::format("k = {}: exp(-{} t)", k, k * k), times,
                                       [=](double t) { return std::exp(-k * k * t); }));
        panel.curves.push_back(measured("", times, [&](double t) { return amplitude(spectral(mode, t), mode); }));
    }
    return {"modes",
            "Each mode decays on its own, the finer the faster.",
            {"Fourier modes under heat (points: measured)", {panel}}};
}

Exhibit step_exhibit() {
    Panel panel{"x", "u(x, t)", {}};
    constexpr int64_t kNodes = 128;
    const double dt = 0.4 * std::pow(2 * pi / kNodes, 2);
    const auto x = numbers(circle(kNodes));
    for (const double t : {0.01, 0.1, 0.5}) {
        const auto steps = int64_t(std::lround(t / dt));
        panel.curves.push_back(
            formula(fmt::format("t = {}", t), x, [=](double at) { return smoothed_step(at, double(steps) * dt); }));
        panel.curves.push_back({"", x, numbers(explicit_steps(jump(kNodes), 0.4, steps)), Mark::kDots});
    }
    return {"step",
            "A step is smoothed as the error function says, up to the second jump's reach.",
            {"A step under heat (lines: erf; points: explicit Euler)", {panel}}};
}

Exhibit unstable_exhibit() {
    Panel growth{"steps", "largest |u|", {}, "one dimension, from a step", false, /*log_y=*/true};
    for (const double r : {0.4, 0.5, 0.51, 0.55}) {
        Curve curve{fmt::format("r = {}", r), {}, {}, Mark::kLine};
        auto u = jump(64);
        for (int i = 0; i <= 200; ++i, u = explicit_step(u, r)) curve.x.push_back(i), curve.y.push_back(largest(u));
        growth.curves.push_back(std::move(curve));
    }
    constexpr int64_t kNodes = 32, kSteps = 475;
    const auto wave = circle(kNodes).cos();
    const auto field = explicit_steps(wave.unsqueeze(0) + wave.unsqueeze(1), 0.26, kSteps);
    Curve map{"", {}, {}, Mark::kHeat, numbers(field)};
    for (int64_t i = 0; i < kNodes * kNodes; ++i)
        map.x.push_back(double(i % kNodes)), map.y.push_back(double(i / kNodes));
    const Panel board{"node", "node", {map}, fmt::format("two dimensions, r = 0.26, {} steps", kSteps)};
    return {"unstable",
            "Beyond the limit the shortest wave grows in every step. On the right nothing but rounding errors of a "
            "smooth start, times 1.08^475.",
            {"Explicit Euler beyond its limit", {growth, board}}};
}

void run_heat(Findings& f, HeatOptions o, Draws&) {
    require_multiple("nodes", o.nodes, 2);
    check_modes(f, o);
    check_stability(f);
    check_shapes(f, o);
    f.exhibits = {modes_exhibit(), step_exhibit(), unstable_exhibit()};
}

}  // namespace

Experiment heat_experiment() {
    return experiment(
        "the heat equation smooths: modes decay, steps become error functions, too long a step blows up",
        {"Fourier's equation ∂u/∂t = D ∂²u/∂x² is what the density of a Brownian particle follows. A mode cos(kx) "
         "decays as exp(-D k² t), so fine detail goes first; a Gaussian stays one, with variance s² + 2 D t.",
         "Explicit Euler with r = D dt / h² multiplies mode k by 1 - 4 r sin²(kh/2) in each step. For r > 1/2 (1/4 in "
         "two dimensions) the shortest mode's factor is below -1, and whatever is in it grows without bound."},
        {"src/lab/heat.cpp"}, run_heat);
}

}  // namespace diffuse::lab
