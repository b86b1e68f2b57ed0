#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "lab/experiments.hpp"

/// Random walks and Brownian motion on [0, 1].
namespace diffuse::lab {
namespace {

using std::numbers::pi;

struct BrownianOptions {
    int64_t paths = 20'000, steps = 400;
};

Fields fields(BrownianOptions& o) {
    return {{"paths", Number<int64_t>{&o.paths, 1000, 20'000}, "paths"},
            {"steps", Number<int64_t>{&o.steps, 20, 1000}, "steps of each path, a multiple of 2"}};
}

/// log of the number of ways to choose k of n.
double log_choose(double n, double k) { return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1); }

/// P(S_2m = 0), of a walk of steps of +-1.
double return_probability(int64_t m) {
    return std::exp(log_choose(double(2 * m), double(m)) - double(2 * m) * std::log(2.0));
}

/// E|S_n| / sqrt(n), n even.
double mean_distance(int64_t n) { return std::sqrt(double(n)) * return_probability(n / 2); }

/// P(S_n >= a) with n and a of the same parity.
double tail(int64_t n, int64_t a) {
    double sum = 0;
    for (int64_t s = a; s <= n; s += 2)
        sum += std::exp(log_choose(double(n), double(n + s) / 2) - double(n) * std::log(2.0));
    return sum;
}

/// P(the walk was above 0 for at most 2k of 2n steps): Feller's discrete arcsine law.
double arcsine_walk(int64_t k, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i <= k; ++i) sum += return_probability(i) * return_probability(n - i);
    return sum;
}

/// Share of the steps that a walk was above 0, each as the end of it that is not 0 says. walk: [paths, steps]
torch::Tensor share_above(const torch::Tensor& walk) {
    const auto before = torch::constant_pad_nd(walk.narrow(1, 0, walk.size(1) - 1), {1, 0});
    return (torch::maximum(walk, before) > 0).to(torch::kFloat64).mean(1);
}

void check_walk(Findings& f, const torch::Tensor& walk) {
    const int64_t n = walk.size(1), level = 2 * std::lround(std::sqrt(double(n)) / 2);
    const auto end = walk.select(1, n - 1);
    f.check_mean(fmt::format("E|S_n| / sqrt(n) of a walk of n = {} steps", n), end.abs() / std::sqrt(double(n)),
                 mean_distance(n), "sqrt(n) C(n, n/2) / 2^n");
    f.check("the same formula at n = 10^6 against Brownian motion", mean_distance(1'000'000), std::sqrt(2 / pi), 1e-6,
            "E|B_1| = sqrt(2 / pi) (Donsker); 1 / (4 n)");
    f.check_mean(fmt::format("P(the walk reaches {})", level), std::get<0>(walk.max(1)) >= level,
                 2 * tail(n, level + 2) + tail(n, level) - tail(n, level + 2), "reflection: 2 P(S > a) + P(S = a)");
    const auto above = share_above(walk);
    for (const double share : {0.1, 0.5}) {
        const auto pairs = int64_t(share * double(n) / 2);
        f.check_mean(fmt::format("P(above 0 for at most {} of the time)", share),
                     above <= 2.0 * double(pairs) / double(n) + 1e-9, arcsine_walk(pairs, n / 2),
                     "sum of u_2k u_2n-2k (Feller, chapter III)");
    }
    f.check("that law at 10^4 steps and 0.1 against the arcsine law", arcsine_walk(500, 5000),
            2 / pi * std::asin(std::sqrt(0.1)), 3e-4, "(2 / pi) asin sqrt(x) (Lévy); 1 / n");
}

void check_motion(Findings& f, const torch::Tensor& increments) {
    const double dt = 1 / double(increments.size(1));
    const auto path = increments.cumsum(1), end = path.select(1, path.size(1) - 1);
    f.check_variance("variance of B_1", end, 0, 1, "n dt");
    f.check_mean("E|B_1|", end.abs(), std::sqrt(2 / pi), "sqrt(2 / pi) = 0.797885");
    // Between two nodes below 1 a bridge stays below with probability 1 - exp(-2 (1 - a) (1 - b) / dt).
    const auto before = torch::constant_pad_nd(path.narrow(1, 0, path.size(1) - 1), {1, 0});
    const auto room = (1 - before).clamp_min(0) * (1 - path).clamp_min(0);
    const auto survives = (-torch::expm1(-2 * room / dt)).prod(1);
    f.check_mean("P(max B > 1), with a bridge between the nodes", 1 - survives, 2 * (1 - normal_cdf(1)),
                 "reflection: 2 P(B_1 > 1) = 0.317311");
    f.check_mean("quadratic variation", increments.square().sum(1), 1, "the sum of (dB)² tends to t");
}

/// The variance at t = 1 where steps have the size dt^power: only 1/2 has a limit.
void check_scaling(Findings& f, const BrownianOptions& o, Draws& random) {
    const double n = double(o.steps);
    for (const double power : {0.25, 1.0}) {
        const auto end = random.normal({o.paths, o.steps}).sum(1) * std::pow(1 / n, power);
        f.check_variance(fmt::format("variance at t = 1 of steps of size dt^{}", power), end, 0,
                         std::pow(n, 1 - 2 * power), "n^(1 - 2 p)");
    }
}

Exhibit fan_exhibit(const torch::Tensor& normals) {
    const int64_t n = normals.size(1);
    const auto times = spaced(0, 1, n + 1);
    Figure figure{"Steps of size dt^p", {}};
    for (const double power : {0.5, 0.25, 1.0}) {
        const auto paths =
            torch::constant_pad_nd(normals.narrow(0, 0, 30).cumsum(1) * std::pow(1 / double(n), power), {1, 0});
        const auto edge = [&](const std::string& name, double sign) -> Curve {
            return {name, times, at_each(times, [=](double t) { return sign * 2 * std::sqrt(t); }), Mark::kDashed};
        };
        const auto fan = paths_curve(fmt::format("30 paths of {} steps", n), times, paths);
        figure.panels.push_back(
            {"time t", "x", {fan, edge("+-2 sqrt(t)", 1), edge("", -1)}, fmt::format("p = {}", power)});
    }
    return {"fan",
            "With sqrt(dt) the fan is the same however fine the steps; with other powers it explodes or is flat.",
            std::move(figure)};
}

Exhibit laws_exhibit(const torch::Tensor& walk) {
    const auto density = [](double share) { return 1 / (pi * std::sqrt(share * (1 - share))); };
    const Panel arcsine{"share of the time above 0",
                        "density",
                        {formula("1 / (pi sqrt(x (1 - x)))", spaced(0.005, 0.995, 199), density),
                         histogram("walks, measured", share_above(walk), 0, 1, 40)},
                        "arcsine law"};
    const auto counts = [](int64_t most) {
        std::vector<double> powers;
        for (int64_t n = 2; n <= std::min<int64_t>(most, 256); n *= 2) powers.push_back(double(n));
        return powers;
    };
    const auto distance = [&](double n) { return mean_of(walk.select(1, int64_t(n) - 1).abs()).value / std::sqrt(n); };
    const Panel donsker{
        "steps n",
        "E|S_n| / sqrt(n)",
        {formula("sqrt(n) C(n, n/2) / 2^n", counts(256), [](double n) { return mean_distance(int64_t(n)); }),
         measured("walks, measured", counts(walk.size(1)), distance),
         {"sqrt(2 / pi)", {2, 256}, {std::sqrt(2 / pi), std::sqrt(2 / pi)}, Mark::kDashed}},
        "Donsker",
        /*log_x=*/true};
    return {"laws",
            "A walk spends nearly all or nearly none of its time above 0 more often than half of it.",
            {"Laws of random walks", {arcsine, donsker}}};
}

void run_brownian(Findings& f, BrownianOptions o, Draws& random) {
    require_multiple("steps", o.steps, 2);
    const auto walk = random.signs({o.paths, o.steps}).cumsum(1), normals = random.normal({o.paths, o.steps});
    check_walk(f, walk);
    check_motion(f, normals / std::sqrt(double(o.steps)));
    check_scaling(f, o, random);
    f.exhibits = {fan_exhibit(normals), laws_exhibit(walk)};
}

}  // namespace

Experiment brownian_experiment() {
    return experiment(
        "from a random walk to Brownian motion: sqrt(dt), reflection, the arcsine law",
        {"A walk of n steps of +-1, scaled by 1/sqrt(n), tends to Brownian motion (Donsker). Variances of independent "
         "steps add, so a step of a time dt has the size sqrt(dt): with any other power the limit is nothing or "
         "infinity.",
         "Reflection: P(max B > a) = 2 P(B_1 > a). The time above 0 follows the arcsine law, "
         "P(share < x) = (2/pi) asin sqrt(x)."},
        {"src/lab/brownian.cpp", "src/base/random.cpp"}, run_brownian);
}

}  // namespace diffuse::lab
