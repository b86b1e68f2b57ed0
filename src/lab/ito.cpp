#include <fmt/format.h>

#include <cmath>

#include "lab/experiments.hpp"

/// Geometric Brownian motion dX = mu X dt + sigma X dW from 1 up to t = 1, by two methods, and two integrals of B dB.
namespace diffuse::lab {
namespace {

struct ItoOptions {
    double mu = 0.5, sigma = 0.5;
    int64_t paths = 16'384;
};

Fields fields(ItoOptions& o) {
    return {{"mu", Number<double>{&o.mu, 0.05, 1}, "drift mu"},
            {"sigma", Number<double>{&o.sigma, 0.05, 0.5}, "noise sigma"},
            {"paths", Number<int64_t>{&o.paths, 16'384, 131'072}, "paths, a multiple of 64"}};
}

enum class Method { kEulerMaruyama, kMilstein };

/// From the increments of the Brownian paths, [paths, steps]
torch::Tensor end_of(const ItoOptions& o, const torch::Tensor& increments, Method method) {
    const double dt = 1 / double(increments.size(1));
    auto x = torch::ones({increments.size(0)}, torch::kFloat64);
    for (int64_t i = 0; i < increments.size(1); ++i) {
        const auto dw = increments.select(1, i);
        auto factor = 1 + o.mu * dt + o.sigma * dw;
        if (method == Method::kMilstein) factor = factor + o.sigma * o.sigma / 2 * (dw.square() - dt);
        x = x * factor;
    }
    return x;
}

torch::Tensor exact_end(const ItoOptions& o, const torch::Tensor& increments) {
    return (o.mu - o.sigma * o.sigma / 2 + o.sigma * increments.sum(1)).exp();
}

/// Increments of `steps` steps from those of more.
torch::Tensor coarser(const torch::Tensor& increments, int64_t steps) {
    return increments.view({increments.size(0), steps, -1}).sum(2);
}

/// E(X_n - X(1))^2 in n steps, exactly: of one step's factor, E F^2, E F G and E G^2 with G the exact one.
double mean_square(const ItoOptions& o, int64_t n, Method method) {
    const double dt = 1 / double(n), s2 = o.sigma * o.sigma * dt, m = 1 + o.mu * dt, grow = std::exp(o.mu * dt);
    const bool milstein = method == Method::kMilstein;
    const double own = m * m + s2 + (milstein ? s2 * s2 / 2 : 0), both = grow * (m + s2 + (milstein ? s2 * s2 / 2 : 0));
    return std::pow(own, double(n)) - 2 * std::pow(both, double(n)) + std::exp(2 * o.mu + o.sigma * o.sigma);
}

const std::vector<double> kStepSizes = {1 / 2.0, 1 / 4.0, 1 / 8.0, 1 / 16.0, 1 / 32.0, 1 / 64.0};

/// The error of paths by the formula, in steps of this size.
std::function<double(double)> expected_error(const ItoOptions& o, Method method) {
    return [=](double dt) { return std::sqrt(mean_square(o, std::lround(1 / dt), method)); };
}

std::string name_of(Method method) { return method == Method::kMilstein ? "Milstein" : "Euler-Maruyama"; }

/// The order by all paths, and its standard error: to first order, each path moves it by the regression's weights times
/// half its relative square error.
Mean measured_order(const ItoOptions& o, const torch::Tensor& increments, Method method) {
    const auto exact = exact_end(o, increments);
    const auto x = doubles(kStepSizes).log();
    const auto weights = (x - x.mean()) / (x - x.mean()).square().sum();
    double order = 0;
    auto influence = torch::zeros_like(exact);
    for (size_t i = 0; i < kStepSizes.size(); ++i) {
        const auto squares = (end_of(o, coarser(increments, std::lround(1 / kStepSizes[i])), method) - exact).square();
        const double mean = squares.mean().item<double>(), weight = weights[int64_t(i)].item<double>();
        order += weight * std::log(mean) / 2;
        influence += weight * (squares / mean - 1) / 2;
    }
    return {order, mean_of(influence).standard_error};
}

void check_strong(Findings& f, const ItoOptions& o, const torch::Tensor& increments) {
    const auto exact = exact_end(o, increments);
    for (const Method method : {Method::kEulerMaruyama, Method::kMilstein}) {
        for (const int64_t n : {4, 64}) {
            f.check_mean(fmt::format("{}: mean square error of paths in {} steps", name_of(method), n),
                         (end_of(o, coarser(increments, n), method) - exact).square(), mean_square(o, n, method),
                         "(E F²)^n - 2 (E F G)^n + (E G²)^n of one step's factors");
        }
        const auto [order, standard_error] = measured_order(o, increments, method);
        f.check(fmt::format("{}: strong order over 2 to 64 steps", name_of(method)), order,
                order_of(expected_error(o, method), kStepSizes), 4 * standard_error,
                fmt::format("the regression of that formula; {} as dt -> 0", method == Method::kMilstein ? "1" : "1/2"),
                true);
    }
}

void check_weak(Findings& f, const ItoOptions& o, const torch::Tensor& increments) {
    const auto exact = exact_end(o, increments);
    for (const int64_t n : {4, 16, 64}) {
        f.check_mean(fmt::format("Euler-Maruyama: error of the mean in {} steps", n),
                     end_of(o, coarser(increments, n), Method::kEulerMaruyama) - exact,
                     std::pow(1 + o.mu / double(n), double(n)) - std::exp(o.mu), "(1 + mu dt)^n - e^mu: weak order 1");
    }
}

/// int B dB by the left end of each step (Ito) and by the mean of both (Stratonovich).
void check_integrals(Findings& f, const torch::Tensor& increments) {
    const auto path = increments.cumsum(1), before = path - increments, end = path.select(1, path.size(1) - 1);
    const auto ito = (before * increments).sum(1), stratonovich = ((before + path) / 2 * increments).sum(1);
    f.check_mean("mean of Ito's int B dB", ito, 0, "a martingale");
    f.check_mean("mean of Stratonovich's", stratonovich, 0.5, "B² / 2");
    f.check_mean("mean square of Ito's less (B² - 1) / 2", (ito - (end.square() - 1) / 2).square(),
                 0.5 / double(increments.size(1)), "dt / 2: the quadratic variation's");
}

Exhibit orders_exhibit(const ItoOptions& o, const torch::Tensor& increments) {
    Panel strong{"dt", "RMS error at t = 1", {}, "strong", true, true};
    const auto exact = exact_end(o, increments);
    const auto error = [&](double dt, Method method) {
        return end_of(o, coarser(increments, std::lround(1 / dt)), method) - exact;
    };
    for (const Method method : {Method::kEulerMaruyama, Method::kMilstein}) {
        strong.curves.push_back(formula(name_of(method), kStepSizes, expected_error(o, method)));
        strong.curves.push_back(measured(
            "", kStepSizes, [&](double dt) { return error(dt, method).square().mean().sqrt().item<double>(); }));
    }
    const Panel weak{
        "dt",
        "error of the mean",
        {formula("e^mu - (1 + mu dt)^n", kStepSizes,
                 [&](double dt) { return std::exp(o.mu) - std::pow(1 + o.mu * dt, 1 / dt); }),
         measured("", kStepSizes,
                  [&](double dt) { return error(dt, Method::kEulerMaruyama).mean().abs().item<double>(); })},
        "weak",
        true,
        true};
    return {"orders",
            "Paths come near as sqrt(dt), expectations as dt; Milstein's term makes paths come near as dt too.",
            {"Geometric Brownian motion (lines: formulas; points: measured)", {strong, weak}}};
}

void run_ito(Findings& f, ItoOptions o, Draws& random) {
    require_multiple("paths", o.paths, 64);
    const auto increments = random.normal({o.paths, 64}) / 8;
    check_strong(f, o, increments);
    check_weak(f, o, increments);
    check_integrals(f, increments);
    f.exhibits = {orders_exhibit(o, increments)};
}

}  // namespace

Experiment ito_experiment() {
    return experiment(
        "strong and weak orders on geometric Brownian motion, and what Ito's integral is",
        {"dX = mu X dt + sigma X dW has the solution exp((mu - sigma²/2) t + sigma B). Euler-Maruyama's paths are off "
         "by sqrt(dt), its expectations by dt; Milstein adds sigma² X (dW² - dt) / 2 and has paths off by dt.",
         "int B dB is (B² - t) / 2 with the left end of each step (Ito) and B² / 2 with the middle (Stratonovich): "
         "where the noise depends on the state, the two mean different processes."},
        {"src/lab/ito.cpp"}, run_ito);
}

}  // namespace diffuse::lab
