#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "lab/experiments.hpp"
#include "lab/lattice.hpp"

/// The backward equation: what is expected at the end, as a function of where one begins.
namespace diffuse::lab {
namespace {

struct KolmogorovOptions {
    int64_t nodes = 801, paths = 20'000;
};

Fields fields(KolmogorovOptions& o) {
    return {{"nodes", Number<int64_t>{&o.nodes, 401, 3201}, "nodes on [-8, 8], a multiple of 16 and one more"},
            {"paths", Number<int64_t>{&o.paths, 1000, 100'000}, "paths"}};
}

double bowl(double x) { return x * x / 2; }  // OU with theta = 1
double flat(double) { return 0; }

/// u(x, t) = E[end(X_t) | X_0 = x] at the nodes, by Crank-Nicolson, where `kill` is a rate at which paths die.
std::vector<double> backward(const Lattice& lattice, const std::function<double(double)>& end,
                             const std::function<double(double)>& kill, double t, int64_t steps) {
    Tridiagonal generator = lattice.generator.transposed();
    for (size_t i = 0; i < lattice.x.size(); ++i) generator.diagonal[i] -= kill(lattice.x[i]);
    return evolve(generator, at_each(lattice.x, end), t / double(steps), steps, 0.5);
}

/// <u(T - t), p(t)> at ten times on the way, each equation by its own steps of implicit Euler.
void check_duality(Findings& f) {
    const auto lattice = make_lattice(double_well, 0.5, -3, 3, 301);
    const auto inner = [](const std::vector<double>& u, const std::vector<double>& p) {
        return std::inner_product(u.begin(), u.end(), p.begin(), 0.0);
    };
    const auto p = lattice.spike(-1), u = at_each(lattice.x, [](double x) { return std::sin(x) + (x > 0 ? 1 : 0); });
    constexpr int64_t kSteps = 100;
    const double first = inner(evolve(lattice.generator.transposed(), u, 0.02, kSteps, 1), p);
    double largest = 0;
    for (int64_t i = 1; i <= 10; ++i) {
        const auto now = evolve(lattice.generator, p, 0.02, i * kSteps / 10, 1);
        const auto rest = evolve(lattice.generator.transposed(), u, 0.02, kSteps - i * kSteps / 10, 1);
        largest = std::max(largest, std::abs(inner(rest, now) - first));
    }
    f.check("largest change of <u(T - t), p(t)> on the way", largest, 0, 1e-12,
            "d/dt <u, p> = <u, A p> - <A^T u, p> = 0; rounding");
}

void check_committor(Findings& f) {
    const auto lattice = make_lattice(double_well, 0.5, -1, 1, 401);
    Tridiagonal generator = lattice.generator.transposed();
    generator.hold(lattice.node_at(-1));
    generator.hold(lattice.node_at(1));
    const auto u = generator.solve(lattice.spike(1));
    const auto weight = [](double x) { return std::exp(2 * double_well(x)); };
    f.check("P(1 before -1) from -1/2 in the double well, sigma 1", u[lattice.node_at(-0.5)],
            integral(weight, -1, -0.5) / integral(weight, -1, 1), 1e-5, "int e^(2V/sigma²), quadrature; h²");
}

/// E cos X_t of dX = -X dt + dW from x.
double exact_cosine(double x, double t) { return std::cos(x * std::exp(-t)) * std::exp(-(1 - std::exp(-2 * t)) / 4); }

void check_cosine(Findings& f, const KolmogorovOptions& o, Draws& random) {
    const auto lattice = make_lattice(bowl, 0.5, -8, 8, o.nodes);
    const auto u = backward(
        lattice, [](double x) { return std::cos(x); }, flat, 1, 400);
    const double h2 = lattice.h * lattice.h;
    for (const double x : {0.0, 1.0}) {
        f.check(fmt::format("E cos X_1 from {} of dX = -X dt + dW, by the equation", x), u[lattice.node_at(x)],
                exact_cosine(x, 1), 0.5 * h2, "cos(x e^-t) exp(-v/2), v = (1 - e^-2t) / 2; h²");
    }
    const double decay = std::exp(-0.01), std = std::sqrt((1 - decay * decay) / 2);
    auto x = torch::ones({o.paths}, torch::kFloat64);
    for (int i = 0; i < 100; ++i) x = decay * x + std * random.normal({o.paths});
    f.check_mean("the same from 1, by paths", x.cos(), exact_cosine(1, 1), "the same formula");
}

/// E exp(-w^2 / 2 int_0^1 B^2 dt): paths that die at a rate (w x)^2 / 2.
void check_feynman_kac(Findings& f, const KolmogorovOptions& o, Draws& random) {
    constexpr int64_t kSteps = 400;
    const auto lattice = make_lattice(flat, 0.5, -8, 8, o.nodes);
    const auto path =
        torch::constant_pad_nd((random.normal({o.paths, kSteps}) / std::sqrt(double(kSteps))).cumsum(1), {1, 0});
    const auto squares = path.square();
    const auto area = (squares.sum(1) - (squares.select(1, 0) + squares.select(1, kSteps)) / 2) / double(kSteps);
    for (const double w : {1.0, 2.0}) {
        const double expected = 1 / std::sqrt(std::cosh(w));
        const auto u = backward(
            lattice, [](double) { return 1.0; }, [=](double x) { return w * w * x * x / 2; }, 1, 400);
        f.check(fmt::format("E exp(-w²/2 int B²) for w = {}, by the equation", w), u[lattice.node_at(0)], expected,
                0.5 * lattice.h * lattice.h, "1 / sqrt(cosh w) (Cameron & Martin); h²");
        f.check_mean(fmt::format("the same, by paths, for w = {}", w), (-w * w / 2 * area).exp(), expected,
                     "the same formula");
    }
}

Exhibit cosine_exhibit() {
    const auto lattice = make_lattice(bowl, 0.5, -8, 8, 801), middle = make_lattice(double_well, 0.5, -3, 3, 601);
    const auto cosine = [](double x) { return std::cos(x); };
    const auto is_right = [](double x) { return x > 0 ? 1.0 : 0.0; };
    Panel waves{"x at the beginning", "E cos X_t", {}, "dX = -X dt + dW (lines: formula)"};
    Panel chances{"x at the beginning", "P(X_t > 0)", {}, "double well, sigma = 1"};
    for (const double t : {0.1, 0.5, 1.0, 3.0}) {
        const auto u = backward(lattice, cosine, flat, t, 400);
        waves.curves.push_back(
            formula(fmt::format("t = {}", t), spaced(-6, 6, 241), [=](double x) { return exact_cosine(x, t); }));
        waves.curves.push_back(measured("", spaced(-6, 6, 25), [&](double x) { return u[lattice.node_at(x)]; }));
    }
    for (const double t : {0.1, 1.0, 5.0, 20.0}) {
        chances.curves.push_back(
            {fmt::format("t = {}", t), middle.x, backward(middle, is_right, flat, t, 2000), Mark::kLine});
    }
    return {"expectations",
            "The backward equation carries what is expected at the end back to the beginning, until it "
            "forgets where one began.",
            {"The backward equation", {waves, chances}}};
}

void run_kolmogorov(Findings& f, KolmogorovOptions o, Draws& random) {
    require_multiple("nodes", o.nodes, 16, 1);  // so that whole numbers are nodes
    check_duality(f);
    check_committor(f);
    check_cosine(f, o, random);
    check_feynman_kac(f, o, random);
    f.exhibits = {cosine_exhibit()};
}

}  // namespace

Experiment kolmogorov_experiment() {
    return experiment(
        "the backward equation and Feynman-Kac, against formulas and against paths",
        {"u(x, t) = E[g(X_t) | X_0 = x] solves ∂u/∂t = D ∂²u/∂x² - V' ∂u/∂x, whose matrix is the transpose of the "
         "Fokker-Planck equation's; so <u(T - t), p(t)> does not depend on t.",
         "With paths that die at a rate k(x) the same equation, less k u, has the solution E[g(X_t) exp(-int k dt)] "
         "(Feynman-Kac): E exp(-w²/2 int_0^t B²) = 1 / sqrt(cosh wt)."},
        {"src/lab/lattice.cpp", "src/lab/kolmogorov.cpp"}, run_kolmogorov);
}

}  // namespace diffuse::lab
