#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <numeric>

#include "lab/experiments.hpp"
#include "lab/lattice.hpp"

/// A particle in the double well V = (x^2 - 1)^2, dX = -V' dt + sigma dW, so that D = sigma^2 / 2.
namespace diffuse::lab {
namespace {

using std::numbers::pi;
constexpr double kEnd = 3;  // of the line, where exp(-V / D) is nothing

struct FokkerPlanckOptions {
    int64_t nodes = 601, walkers = 20'000;
};

Fields fields(FokkerPlanckOptions& o) {
    return {{"nodes", Number<int64_t>{&o.nodes, 301, 1999}, "nodes on [-3, 3], a multiple of 6 and one more"},
            {"walkers", Number<int64_t>{&o.walkers, 2000, 100'000}, "walkers beside the density"}};
}

Lattice lattice_of(int64_t nodes, double sigma) {
    return make_lattice(double_well, sigma * sigma / 2, -kEnd, kEnd, nodes);
}

/// From the same density everywhere, in few long steps of implicit Euler; of mass 1, which rounding changes a little.
std::vector<double> steady(const Lattice& lattice) {
    auto p = evolve(lattice.generator, std::vector<double>(lattice.x.size(), 1), 100, 40, 1);
    const double mass = std::accumulate(p.begin(), p.end(), 0.0) * lattice.h;
    for (auto& one : p) one /= mass;
    return p;
}

/// The largest error of a density against another where that is not next to nothing, as its share.
double relative_error(const std::vector<double>& p, const std::vector<double>& exact) {
    double largest = 0;
    for (size_t i = 0; i < p.size(); ++i) {
        if (exact[i] > 1e-12) largest = std::max(largest, std::abs(p[i] / exact[i] - 1));
    }
    return largest;
}

double moment(const Lattice& lattice, const std::vector<double>& p, const std::function<double(double)>& f) {
    double sum = 0;
    for (size_t i = 0; i < p.size(); ++i) sum += f(lattice.x[i]) * p[i] * lattice.h;
    return sum;
}

double share_right(const Lattice& lattice, const std::vector<double>& p) {
    return moment(lattice, p, [](double x) { return x > 1e-9 ? 1.0 : std::abs(x) < 1e-9 ? 0.5 : 0.0; });
}

double kramers(double sigma) { return std::sqrt(32.0) / (2 * pi) * std::exp(-2 / (sigma * sigma)); }

/// The mean time from -1 to 0, from the backward equation: generator^T u = -1 with u = 0 at 0.
double passage_time(double sigma, int64_t nodes) {
    const auto lattice = make_lattice(double_well, sigma * sigma / 2, -kEnd, 0, nodes);
    Tridiagonal backward = lattice.generator.transposed();
    backward.hold(lattice.x.size() - 1);
    std::vector<double> minus_one(lattice.x.size(), -1);
    minus_one.back() = 0;
    return backward.solve(minus_one)[lattice.node_at(-1)];
}

void check_steady(Findings& f, int64_t nodes) {
    for (const double sigma : {0.7, 1.0, 1.5}) {
        const auto lattice = lattice_of(nodes, sigma);
        f.check(fmt::format("steady state at sigma {}, largest relative error", sigma),
                relative_error(steady(lattice), boltzmann(lattice, double_well, sigma * sigma / 2)), 0, 1e-9,
                "exp(-2 V / sigma²), exact at the nodes for Chang-Cooper; rounding");
    }
    const auto lattice = lattice_of(nodes, 1);
    const auto p = steady(lattice);
    const size_t top = lattice.node_at(0), well = lattice.node_at(1);
    f.check("p(0) / p(1) at sigma 1", p[top] / p[well], std::exp(-2.0), 1e-9, "exp(-2); rounding");
    f.check("1 / p(1), the partition function, at sigma 1", 1 / p[well], 1.410915, 2e-6,
            "quadrature (tests/golden/double_well.py)");
    f.check("mean of x² at sigma 1", moment(lattice, p, [](double x) { return x * x; }), 0.852136, 2e-6, "quadrature");
    const auto tilted = [](double x) { return double_well(x) + 0.25 * x; };
    const auto slanted = make_lattice(tilted, 0.5, -kEnd, kEnd, nodes);
    const auto weight = [&](double x) { return std::exp(-2 * tilted(x)); };
    f.check("share of the right well where V is tilted by x / 4", share_right(slanted, steady(slanted)),
            integral(weight, 0, kEnd) / integral(weight, -kEnd, kEnd), 1e-4, "quadrature; h²");
}

void check_rates(Findings& f, int64_t nodes) {
    const auto gap = [](int64_t n, double sigma, size_t k) { return decay_rate(lattice_of(n, sigma), k); };
    const double fine = std::pow(double(nodes - 1) / 500, 2);  // 2e-5 and so on are for 501 nodes; the error is h²'s
    f.check("slowest rate of decay at sigma 1", gap(nodes, 1, 1), 0.2272733, 2e-5 / fine,
            "Hermite functions (tests/golden/double_well.py); h²");
    f.check("the next one", gap(nodes, 1, 2), 4.07828, 4e-3 / fine, "the same");
    f.check("slowest at sigma 0.7", gap(nodes, 0.7, 1), 0.0274714, 1e-5 / fine, "the same");
    f.check("order of the gap in h",
            order_of([&](double h) { return gap(std::lround(1 / h) + 1, 1, 1) - 0.2272733; },
                     {1 / 100.0, 1 / 200.0, 1 / 400.0}),
            2, 0.05, "the scheme's");
    for (const double sigma : {1.0, 0.7}) {
        f.check(fmt::format("mean time from -1 to 0 at sigma {}", sigma), passage_time(sigma, 1201),
                sigma == 1 ? 4.60654 : 36.7723, sigma == 1 ? 2e-3 : 2e-2,
                "2/sigma² int e^(2V/sigma²) int e^(-2V/sigma²), by quadrature; h²");
    }
    f.check("the gap over twice Kramers's rate at sigma 0.5", gap(nodes, 0.5, 1) / (2 * kramers(0.5)),
            5.718689e-4 / (2 * kramers(0.5)), 5e-4 / fine + 1e-6,
            "0.947: Kramers is right to some per cent at a barrier of 8 D");
}

/// The orders of the steps in time, against the matrix exponential.
void check_time(Findings& f) {
    const auto lattice = lattice_of(121, 1);
    const auto start = at_each(lattice.x, [](double x) { return std::exp(-2 * (x + 1) * (x + 1)); });
    const auto exact = lattice.generator.dense().matrix_exp().matmul(doubles(start));
    const auto order = [&](double theta) {
        const auto error = [&](double dt) {
            return largest(doubles(evolve(lattice.generator, start, dt, std::lround(1 / dt), theta)) - exact);
        };
        return order_of(error, {1 / 100.0, 1 / 200.0, 1 / 400.0});
    };
    f.check("order of implicit Euler in dt", order(1), 1, 0.05, "Taylor's series; against exp(t A)");
    f.check("order of Crank-Nicolson in dt", order(0.5), 2, 0.05, "the same");
    const auto mass = [](const std::vector<double>& p) { return std::accumulate(p.begin(), p.end(), 0.0); };
    f.check("mass after 1000 steps", mass(evolve(lattice.generator, start, 0.01, 1000, 1)) / mass(start), 1, 1e-10,
            "columns of the generator add to 0; rounding");
}

/// What a scheme makes of all the mass on the node at -1.
std::vector<double> spread_spike(Scheme scheme, double diffusion, double dt, int64_t steps, double theta) {
    const auto lattice = make_lattice(double_well, diffusion, -2, 2, 41, scheme);
    return evolve(lattice.generator, lattice.spike(-1), dt, steps, theta);
}

double smallest(Scheme scheme, double diffusion, double dt, int64_t steps, double theta) {
    return std::ranges::min(spread_spike(scheme, diffusion, dt, steps, theta));
}

void check_signs(Findings& f) {
    f.check_true("implicit Euler on Chang-Cooper stays positive in long steps",
                 smallest(Scheme::kChangCooper, 0.5, 10, 3, 1) >= 0, "an M-matrix has a positive inverse");
    f.check_true("Crank-Nicolson does not", smallest(Scheme::kChangCooper, 0.5, 1, 1, 0.5) < 0,
                 "1 + dt A / 2 has negative entries");
    f.check_true("central differences do not where |V'| h > 2 D",
                 smallest(Scheme::kCentral, 0.02, 0.01, 100, 1) < -1e-6, "rates D/h² (1 - dV/2D) are negative");
}

/// Walkers from -1 by Euler-Maruyama up to t, their places at each of `frames` times.
std::vector<torch::Tensor> walk(int64_t count, double t, int64_t frames, Draws& random) {
    constexpr double kStep = 0.002;
    auto x = torch::full({count}, -1.0, torch::kFloat64);
    std::vector<torch::Tensor> places;
    const auto steps = int64_t(std::lround(t / kStep));
    for (int64_t i = 1; i <= steps; ++i) {
        x = x - kStep * 4 * x * (x.square() - 1) + std::sqrt(kStep) * random.normal({count});
        if (i % (steps / frames) == 0) places.push_back(x);
    }
    return places;
}

/// The density of what is all in the left well.
std::vector<double> density_at_well(const Lattice& lattice) { return lattice.spike(-1, 1 / lattice.h); }

/// All walkers together: where they are at each of some times, and their density at the last one.
struct Crowd {
    double t;
    std::vector<torch::Tensor> places;
    Lattice lattice;
    std::vector<double> density;
};

Crowd crowd_after(double t, const FokkerPlanckOptions& o, Draws& random) {
    const auto lattice = lattice_of(o.nodes, 1);
    return {t, walk(o.walkers, t, 40, random), lattice,
            evolve(lattice.generator, density_at_well(lattice), t / 1000, 1000, 1)};
}

void check_walkers(Findings& f, const Crowd& crowd) {
    const auto& [t, places, lattice, p] = crowd;
    f.check_mean(fmt::format("share of the walkers in the right well at t = {}", t), places.back() > 0,
                 share_right(lattice, p), "a second method: the density's, by Chang-Cooper");
    f.check_mean("their mean", places.back(), moment(lattice, p, [](double x) { return x; }), "the same");
}

constexpr int64_t kShown = 200;  // walkers

Exhibit settling_exhibit(const Crowd& crowd) {
    const auto& [t, places, wide, now] = crowd;
    const auto lattice = lattice_of(241, 1);
    Curve map{"", {}, {}, Mark::kHeat, {}}, dots{"", {}, {}, Mark::kDots};
    auto p = density_at_well(lattice);
    const auto frames = int64_t(places.size());
    for (int64_t frame = 0; frame < frames; ++frame) {
        p = evolve(lattice.generator, p, t / double(frames * 20), 20, 1);
        const double time = t * double(frame + 1) / double(frames);
        for (size_t i = 40; i < p.size() - 40; i += 2) {
            map.x.push_back(time), map.y.push_back(lattice.x[i]), map.u.push_back(std::min(p[i], 1.0));
        }
        const auto some = numbers(places[size_t(frame)].narrow(0, 0, kShown));
        dots.x.insert(dots.x.end(), some.size(), time), dots.y.insert(dots.y.end(), some.begin(), some.end());
    }
    const Panel density{"time t", "x", {map}, "density (at most 1 shown)"};
    const Panel cloud{"time t", "x", {dots}, fmt::format("{} walkers", kShown)};
    const auto exact = boltzmann(wide, double_well, 0.5);
    const Panel end{"x",
                    "density",
                    {{fmt::format("p(x, {})", t), wide.x, now, Mark::kLine},
                     histogram(fmt::format("walkers at t = {}", t), places.back(), -2, 2, 50),
                     {"exp(-2 V / sigma²) / Z", wide.x, exact, Mark::kDashed}},
                    "on the way to the steady state"};
    return {"settling",
            "All begin in the left well, which fills the right one as the slowest mode decays.",
            {"The double well settles, sigma = 1", {density, cloud, end}}};
}

Exhibit rates_exhibit() {
    const std::vector<double> sigmas = {0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2};
    const auto barrier = [](double sigma) { return 2 / (sigma * sigma); };
    const auto gap = [](double sigma) { return decay_rate(lattice_of(301, sigma), 1); };
    const auto twice_kramers = [](double b) { return 2 * kramers(std::sqrt(2 / b)); };
    const Panel gaps{"barrier / D",
                     "rate",
                     {formula("2 x Kramers's rate", spaced(1.3, 8, 60), twice_kramers),
                      {"gap, measured", at_each(sigmas, barrier), at_each(sigmas, gap), Mark::kPoints}},
                     "how fast the wells exchange",
                     false,
                     /*log_y=*/true};
    const auto after = [](Scheme scheme) { return spread_spike(scheme, 0.02, 0.01, 100, 1); };
    const auto x = spaced(-2, 2, 41);
    const Panel signs{
        "x",
        "p",
        {{"central differences", x, after(Scheme::kCentral)}, {"Chang-Cooper", x, after(Scheme::kChangCooper)}},
        "a spike at t = 1, D = 0.02, h = 0.1"};
    return {"rates",
            "Kramers's formula is for high barriers. Central differences draw probabilities below zero.",
            {"Rates and signs", {gaps, signs}}};
}

void run_fokker_planck(Findings& f, FokkerPlanckOptions o, Draws& random) {
    require_multiple("nodes", o.nodes, 6, 1);  // so that the wells and the top are nodes
    const Crowd crowd = crowd_after(4, o, random);
    check_steady(f, o.nodes);
    check_rates(f, o.nodes);
    check_time(f);
    check_signs(f);
    check_walkers(f, crowd);
    f.exhibits = {settling_exhibit(crowd), rates_exhibit()};
}

}  // namespace

Experiment fokker_planck_experiment() {
    return experiment(
        "the double well settles: steady state, rates, passage times, Kramers, and schemes that go negative",
        {"dX = -V'(X) dt + sigma dW has the density ∂p/∂t = ∂(V' p)/∂x + D ∂²p/∂x² with D = sigma² / 2, which settles "
         "at exp(-V / D) / Z. Here V = (x² - 1)², two wells and a barrier of 1.",
         "The slowest mode is the exchange between the wells. For high barriers its rate is twice Kramers's, "
         "sqrt(V''(1) |V''(0)|) / (2 pi) exp(-1 / D). The mean time from one well to the top solves D u'' - V' u' = "
         "-1.",
         "Chang and Cooper's rates are positive and have the right steady state at the nodes for any distance between "
         "them; central differences are neither."},
        {"src/lab/lattice.cpp", "src/lab/fokker_planck.cpp"}, run_fokker_planck);
}

}  // namespace diffuse::lab
