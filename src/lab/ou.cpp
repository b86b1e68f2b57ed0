#include <fmt/format.h>

#include <cmath>

#include "diffuse/diffusion/analytic.hpp"
#include "lab/experiments.hpp"

/// The Ornstein-Uhlenbeck process dX = -theta X dt + sigma dW, forwards and back.
namespace diffuse::lab {
namespace {

struct OuOptions {
    double theta = 1, sigma = 1.4142135623730951;
    int64_t paths = 20'000, steps = 400;
};

Fields fields(OuOptions& o) {
    return {{"theta", Number<double>{&o.theta, 0.1, 5}, "rate theta of the forward process"},
            {"sigma", Number<double>{&o.sigma, 0.1, 5}, "noise sigma of the forward process"},
            {"paths", Number<int64_t>{&o.paths, 1000, 100'000}, "paths"},
            {"steps", Number<int64_t>{&o.steps, 400, 2000}, "steps of the reverse SDE"}};
}

torch::Tensor euler_maruyama(const OuOptions& o, double x0, double dt, int64_t steps, Draws& random) {
    auto x = torch::full({o.paths}, x0, torch::kFloat64);
    for (int64_t i = 0; i < steps; ++i) x = x - o.theta * dt * x + o.sigma * std::sqrt(dt) * random.normal({o.paths});
    return x;
}

void check_forward(Findings& f, const OuOptions& o, Draws& random) {
    constexpr double kStart = 2;
    const double dt = 0.01 / o.theta, long_dt = 0.2 / o.theta;
    const auto x = euler_maruyama(o, kStart, dt, 100, random);
    const double mean = kStart * std::pow(1 - o.theta * dt, 100);
    const double own = o.sigma * o.sigma / (2 * o.theta - o.theta * o.theta * dt);
    f.check_mean("mean at theta t = 1, from X = 2", x, mean, "x (1 - theta dt)^n, near x exp(-theta t)");
    f.check_variance("variance there", x, mean, own * (1 - std::pow(1 - o.theta * dt, 200)),
                     "sigma² / (2 theta - theta² dt) (1 - (1 - theta dt)^2n)");
    const double limit = o.sigma * o.sigma / (2 * o.theta - o.theta * o.theta * long_dt);
    f.check_variance("stationary variance of Euler-Maruyama at theta dt = 0.2",
                     euler_maruyama(o, 0, long_dt, 100, random), 0, limit, "sigma² / (2 theta - theta² dt)");
}

/// Data in one dimension, of two modes.
Mixture two_modes() { return {doubles({-1, 1}).unsqueeze(1), doubles({0.25, 0.25}), doubles({0.3, 0.7})}; }

/// P(x_t < x) of noisy data.
torch::Tensor cdf(const Mixture& data, const torch::Tensor& x, const NoiseLevel& level) {
    const auto std = ((level.alpha * data.stds).square() + level.sigma * level.sigma).sqrt();
    const auto z = (x - level.alpha * data.means.squeeze(1)) / std;  // [N, 1] and [K]
    return (data.weights * 0.5 * (1 + (z / std::sqrt(2.0)).erf())).sum(1);
}

/// Every level, from the schedule's end to data.
Grid times_of(const Schedule& schedule) {
    Grid grid;
    for (int64_t t = schedule.steps(); t >= 0; --t) grid.push_back(schedule.at(double(t)));
    return grid;
}

/// The reverse SDE (eta 1) or the flow ODE (eta 0) by the solver that `sample` runs, a step from each level to the
/// next; all states, the first too.
std::vector<torch::Tensor> walk_back(const Schedule& schedule, double eta, torch::Tensor x, Draws& random) {
    const auto solver = make_solver("euler-maruyama", {.eta = eta, .schedule = std::make_shared<Schedule>(schedule)});
    std::vector<torch::Tensor> states = {x};
    integrate(*solver, mixture_denoiser(two_modes()), x, times_of(schedule), random.step_noise(x.sizes()),
              [&](int64_t, const torch::Tensor& now) { states.push_back(now); });
    return states;
}

void check_reverse(Findings& f, const torch::Tensor& x) {
    const double mean = 0.4, variance = 0.0625 + 0.3 * 0.7 * 4;
    f.check_mean("mean of the reverse SDE's end", x, mean, "0.7 - 0.3, the data's");
    f.check_variance("its variance", x, mean, variance, "s² + 4 w (1 - w), the data's");
    f.check_mean("share of it above 0", x > 0, 0.7 * normal_cdf(4) + 0.3 * normal_cdf(-4), "the data's");
}

/// In one dimension the flow ODE keeps the order of points, so that each stays at its quantile.
void check_flow(Findings& f, const Schedule& vp) {
    const auto x = torch::linspace(-2, 2, 41, torch::kFloat64).unsqueeze(1);
    const auto start = vp.at(double(vp.steps()));
    const auto end = make_solver("dopri5", {.tolerance = 1e-9})->step(mixture_denoiser(two_modes()), x, start, {}, {});
    f.check("largest change of a quantile along the flow ODE, from t = 1 to data",
            largest(cdf(two_modes(), end, {}) - cdf(two_modes(), x, start)), 0, 1e-6,
            "F_0(x_0) = F_1(x_1): no flow passes itself; dopri5's tolerance");
}

/// The first paths of states from t = 1 to 0.
Curve first_paths(const std::string& name, const std::vector<torch::Tensor>& states, int64_t count) {
    std::vector<torch::Tensor> places;
    for (const auto& state : states) places.push_back(state.narrow(0, 0, count).squeeze(1));
    return paths_curve(name, spaced(1, 0, int64_t(states.size())), torch::stack(places, 1));
}

Exhibit reverse_exhibit(const Schedule& vp, const std::vector<torch::Tensor>& states, Draws& random) {
    const auto ends = torch::linspace(-2, 2, 33, torch::kFloat64).unsqueeze(1);
    const auto flow = walk_back(vp, 0, ends, random);
    const std::string time = "time t (noise at 1, data at 0)";
    const Panel sde{time, "x", {first_paths("40 paths", states, 40)}, "reverse SDE"};
    const Panel ode{time, "x", {first_paths("33 points", flow, 33)}, "flow ODE"};
    const auto x = spaced(-2, 2, 201);
    const auto density = mixture_log_density(two_modes(), doubles(x).unsqueeze(1)).exp();
    const Panel end{"x",
                    "density",
                    {{"the data's density", x, numbers(density), Mark::kLine},
                     histogram("ends of the reverse SDE", states.back(), -2, 2, 80)},
                    "what comes out"};
    return {
        "reverse",
        "Noise un-collapses into two modes. The SDE's paths shake until the end; the ODE's never cross, and have the "
        "same densities.",
        {"From noise back to data", {sde, ode, end}}};
}

Exhibit bias_exhibit(const OuOptions& o, Draws& random) {
    const auto ratio = [&](double step) {
        const auto x = euler_maruyama(o, 0, step / o.theta, 120, random);
        return x.square().mean().item<double>() * 2 * o.theta / (o.sigma * o.sigma);
    };
    const Panel panel{
        "theta dt",
        "variance / exact variance",
        {formula("1 / (1 - theta dt / 2)", spaced(0.05, 1.2, 47), [](double step) { return 1 / (1 - step / 2); }),
         measured("measured", {0.1, 0.3, 0.5, 0.7, 0.9, 1.1}, ratio)}};
    return {"bias", "Long steps of Euler-Maruyama end in a law that is too wide.", {"Euler-Maruyama's bias", {panel}}};
}

void run_ou(Findings& f, OuOptions o, Draws& random) {
    const Schedule vp = make_schedule({.kind = "vp", .steps = o.steps});
    check_forward(f, o, random);
    const auto states = walk_back(vp, 1, random.normal({o.paths, 1}), random);
    check_reverse(f, states.back());
    check_flow(f, vp);
    f.exhibits = {reverse_exhibit(vp, states, random), bias_exhibit(o, random)};
}

}  // namespace

Experiment ou_experiment() {
    return experiment(
        "the Ornstein-Uhlenbeck process: its law, Euler-Maruyama's bias, and the way back by SDE and by ODE",
        {"dX = -theta X dt + sigma dW has the mean x exp(-theta t) and the variance sigma² / (2 theta) (1 - exp(-2 "
         "theta t)). Euler-Maruyama's own stationary variance is sigma² / (2 theta - theta² dt). Schedule vp is this "
         "process in a time of its own.",
         "Anderson's reverse SDE dx = [f x - g² ∇log p] dt + g dw and the flow ODE dx/dt = f x - g²/2 ∇log p bring "
         "noise back to data of two modes, here with the exact score. In one dimension the ODE keeps every quantile."},
        {"src/solve/euler_maruyama.cpp", "src/solve/dopri5.cpp", "src/diffusion/analytic.cpp", "src/lab/ou.cpp"},
        run_ou);
}

}  // namespace diffuse::lab
