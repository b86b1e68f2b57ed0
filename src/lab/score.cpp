#include <fmt/format.h>

#include <cmath>

#include "diffuse/base/progress.hpp"
#include "diffuse/diffusion/analytic.hpp"
#include "diffuse/diffusion/objective.hpp"
#include "diffuse/measure/fisher.hpp"
#include "diffuse/nets/net.hpp"
#include "diffuse/train/batch.hpp"
#include "diffuse/train/flat_parameters.hpp"
#include "diffuse/train/learning_rate.hpp"
#include "diffuse/train/optimizer.hpp"
#include "lab/experiments.hpp"
#include "lab/lattice.hpp"

/// The score of data in the plane with two modes, at (-1, 0) and (1, 0), and what Langevin dynamics make of it.
namespace diffuse::lab {
namespace {

struct ScoreOptions {
    double std = 0.25, right = 0.7;
    int64_t samples = 5000;
};

Fields fields(ScoreOptions& o) {
    return {{"std", Number<double>{&o.std, 0.25, 0.5}, "standard deviation of each mode"},
            {"right", Number<double>{&o.right, 0.05, 0.95}, "weight of the right mode"},
            {"samples", Number<int64_t>{&o.samples, 1000, 50'000}, "samples"}};
}

Mixture modes(double std, double right) {
    return {torch::stack({doubles({-1, 0}), doubles({1, 0})}), doubles({std, std}), doubles({1 - right, right})};
}

NoiseLevel noisy(double sigma) { return {1, sigma, 0}; }

torch::Tensor score(const Mixture& data, const torch::Tensor& x, const NoiseLevel& level) {
    return -mixture_denoiser(data)(x, level).eps / level.sigma;
}

/// The score's first coordinate, by hand: (-x + m tanh(m x / v + log(w_+ / w_-) / 2)) / v with m = alpha.
double score_by_hand(const ScoreOptions& o, double x, const NoiseLevel& level) {
    const double m = level.alpha, v = m * m * o.std * o.std + level.sigma * level.sigma;
    return (-x + m * std::tanh(m * x / v + std::log(o.right / (1 - o.right)) / 2)) / v;
}

torch::Tensor on_axis(const std::vector<double>& x) {
    const auto first = doubles(x);
    return torch::stack({first, torch::full_like(first, 0.3)}, 1);
}

void check_score(Findings& f, const ScoreOptions& o) {
    const auto data = modes(o.std, o.right);
    const auto x = spaced(-2, 2, 81);
    for (const NoiseLevel& level : {noisy(0.2), NoiseLevel{0.6, 0.8, 0}}) {
        const auto by_hand = doubles(at_each(x, [&](double at) { return score_by_hand(o, at, level); }));
        const auto found = score(data, on_axis(x), level).select(1, 0);
        f.check(fmt::format("score by the denoiser against the formula, alpha {} sigma {}", level.alpha, level.sigma),
                largest(found - by_hand), 0, 1e-11 * largest(by_hand),
                "(-x + alpha m tanh(alpha m x / v + log(w+/w-) / 2)) / v; rounding");
    }
    const auto points = on_axis(x);
    constexpr double kH = 1e-5;
    const auto step = doubles({kH, 0.0});
    const auto slope =
        (mixture_log_density(data, points + step, noisy(0.3)) - mixture_log_density(data, points - step, noisy(0.3))) /
        (2 * kH);
    f.check("score against differences of log p", largest(slope - score(data, points, noisy(0.3)).select(1, 0)), 0,
            1e-5, "the score is the gradient of log p; differences lose h² and rounding / h");
}

/// The noise above which two equal modes are one: the curvature of log p between them changes its sign.
void check_speciation(Findings& f, double std) {
    const auto data = modes(std, 0.5);
    const auto slope_between = [&](double sigma) {
        const auto near = torch::tensor({{1e-4, 0.0}}, torch::kFloat64);
        return score(data, near, noisy(sigma)).index({0, 0}).item<double>();
    };
    f.check("sigma / alpha at which two equal modes merge", root(slope_between, 0.1, 3), std::sqrt(1 - std * std), 1e-6,
            "sqrt(m² - s²)");
}

/// The library's Langevin steps at one noise level, from the left mode. Returns the states after `steps`.
torch::Tensor at_one_level(const ScoreOptions& o, double sigma, double step_size, int64_t steps, Draws& random) {
    const auto denoiser = mixture_denoiser(modes(o.std, o.right));
    const auto solver = make_langevin(1, step_size);
    const double std = std::sqrt(o.std * o.std + sigma * sigma);
    auto x = std * random.normal({o.samples, 2}) + doubles({-1, 0});
    const auto noise = random.step_noise(x.sizes());
    Progress progress("score, one noise level: step", steps);
    for (int64_t i = 0; i < steps; ++i) {
        x = solver->step(denoiser, x, noisy(sigma), noisy(sigma), [&](int64_t k) { return noise(i, k); });
        progress.update(i + 1);
    }
    return x;
}

/// What the Fokker-Planck equation says of the share on the right: the first coordinate moves on its own in -log p.
double share_after(const ScoreOptions& o, double sigma, double t) {
    const double std = std::sqrt(o.std * o.std + sigma * sigma);
    const auto bell = [=](double x, double m) { return std::exp(-(x - m) * (x - m) / (2 * std * std)); };
    const auto potential = [&](double x) { return -std::log((1 - o.right) * bell(x, -1) + o.right * bell(x, 1)); };
    const auto lattice = make_lattice(potential, 1, -1 - 6 * std, 1 + 6 * std, 801);
    std::vector<double> p;
    double total = 0, right = 0;
    for (const double x : lattice.x) p.push_back(bell(x, -1));
    p = evolve(lattice.generator, p, t / 2000, 2000, 1);
    for (size_t i = 0; i < p.size(); ++i)
        total += p[i], right += std::abs(lattice.x[i]) < 1e-9 ? p[i] / 2 : lattice.x[i] > 0 ? p[i] : 0;
    return right / total;
}

void check_mixing(Findings& f, const ScoreOptions& o, Draws& random) {
    constexpr int64_t kSteps = 400;
    for (const double sigma : {0.2, 0.5, 1.5}) {
        const double step_size = 0.02 / (sigma * sigma) * std::min(1.0, o.std * o.std + sigma * sigma) / 2;
        const double h = step_size * sigma * sigma, expected = share_after(o, sigma, h * kSteps);
        if (double(o.samples) * std::min(expected, 1 - expected) < 50) continue;  // too few for a standard error
        const auto x = at_one_level(o, sigma, step_size, kSteps, random);
        const double share = (x.select(1, 0) > 0).to(torch::kFloat64).mean().item<double>();
        f.check(fmt::format("share that reached the right mode in a time of {:.1f} at sigma {}", h * kSteps, sigma),
                share, expected, 4 * std::sqrt(expected * (1 - expected) / double(o.samples)),
                "a second method: Fokker-Planck in -log p, by Chang-Cooper", true);
    }
}

/// Points of the two modes.
torch::Tensor draw(const ScoreOptions& o, int64_t count, Draws& random) {
    const auto side = torch::where(random.uniform({count}) < o.right, 1.0, -1.0).to(torch::kFloat64);
    return torch::stack({side, torch::zeros_like(side)}, 1) + o.std * random.normal({count, 2});
}

/// What a small network learns of the score from points alone, by denoising score matching at all levels.
Denoiser learned_denoiser(const ScoreOptions& o, Draws& random) {
    constexpr int64_t kBatch = 256;
    TrainOptions options;
    options.steps = 1500;
    options.learning_rate = 5e-3;
    const Schedule schedule = make_schedule({.kind = "ve"});
    const Parameterization meaning = make_parameterization({});
    const Objective objective = make_objective("dsm", meaning, schedule, "v");
    const NetOptions small{.kind = "mlp", .unet = {}, .mlp = {.width = 32, .blocks = 2}, .classes = {}};
    const Net net = make_net(small, ExampleShape::of_points(2), {}, /*seed=*/1, torch::kCPU);
    const auto parameters = weight_groups(net, "adamw").parameters();
    const auto weights = flatten_parameters(parameters), average = weights.clone();
    const auto gradient = flatten_gradients(parameters);
    AdamW optimizer(weights, average, options.beta2, /*weight_decay=*/0);
    const LearningRate rate = make_learning_rate(options, options.learning_rate);
    Progress progress("score, training: step", options.steps);
    for (int64_t step = 1; step <= options.steps; ++step) {
        const auto levels = training_levels(/*seed=*/1, step, kBatch, schedule, {.kind = "logit-normal"});
        const Batch batch{draw(o, kBatch, random).to(torch::kFloat32), random.normal({kBatch, 2}).to(torch::kFloat32),
                          levels};
        gradient.zero_();
        objective(net, batch).mean().backward();
        optimizer.step(gradient, /*factor=*/1, rate(step), ema_decay(0.995, step));
        progress.update(step);
    }
    view_parameters(parameters, average);
    return network_denoiser(net, meaning, schedule);
}

void check_learned(Findings& f, const ScoreOptions& o, const Denoiser& learned, Draws& random) {
    const auto data = draw(o, 5000, random);
    for (const double sigma : {0.3, 1.2}) {
        const auto found = fisher_divergence(learned, mixture_denoiser(modes(o.std, o.right)), data, sigma, /*seed=*/1);
        f.check(fmt::format("a learned score's Fisher divergence at sigma {}, relative", sigma), found.relative.value,
                0, 0.05, "E|s - s*|² / E|s*|²; what a network of 32 numbers a layer leaves after 1,500 steps");
    }
}

constexpr double kLastSigma = 0.15;  // of annealing

/// Annealed Langevin dynamics from noise, by the library's solver, as slowly as it takes to be exact: at the last level
/// with noise, and as data.
struct Annealed {
    torch::Tensor noisy, clean;
};
Annealed anneal(const ScoreOptions& o, int64_t levels, Draws& random) {
    Grid grid;
    for (const double r : spaced(std::log(1.5), std::log(kLastSigma), levels)) grid.push_back(noisy(std::exp(r)));
    grid.push_back(grid.back());
    grid.push_back({});
    const auto start = 1.5 * random.normal({o.samples, 2});
    Annealed states;
    Progress progress("score, annealing: level", levels);
    states.clean = integrate(*make_langevin(20, 0.1), mixture_denoiser(modes(o.std, o.right)), start, grid,
                             random.step_noise(start.sizes()), [&](int64_t done, const torch::Tensor& x) {
                                 progress.update(std::min(done, levels));
                                 if (done == levels) states.noisy = x;
                             });
    return states;
}

void check_annealed(Findings& f, const ScoreOptions& o, const torch::Tensor& x) {
    const double std = std::hypot(o.std, kLastSigma);
    f.check_mean("share of the right mode after annealed Langevin dynamics", x.select(1, 0) > 0,
                 o.right * normal_cdf(1 / std) + (1 - o.right) * normal_cdf(-1 / std),
                 "w Phi(1 / s') + (1 - w) Phi(-1 / s'), s'² = s² + 0.15²");
    f.check_mean("mean of the other coordinate", x.select(1, 1), 0, "the data's");
}

Curve cloud(const std::string& name, const torch::Tensor& x) {
    const auto some = x.narrow(0, 0, std::min<int64_t>(x.size(0), 1500));
    return {name, numbers(some.select(1, 0)), numbers(some.select(1, 1)), Mark::kDots};
}

/// The density behind arrows of a denoiser's score; of the exact one with the line between the modes.
Panel field_panel(const ScoreOptions& o, double sigma, const Denoiser& denoiser, const std::string& title) {
    const auto data = modes(o.std, o.right);
    Curve map{"", {}, {}, Mark::kHeat}, arrows{"", {}, {}, Mark::kArrows},
        zero{"no force to either side", {}, {}, Mark::kDashed};
    const auto grid_of = [](Curve& curve, int64_t across, int64_t up) {
        for (const double y : spaced(-1.5, 1.5, up)) {
            for (const double x : spaced(-2, 2, across)) curve.x.push_back(x), curve.y.push_back(y);
        }
        return torch::stack({doubles(curve.x), doubles(curve.y)}, 1);
    };
    map.u = numbers(mixture_log_density(data, grid_of(map, 81, 61), noisy(sigma)).exp());
    auto s = -denoiser(grid_of(arrows, 17, 13), noisy(sigma)).eps / sigma;
    const auto length = s.square().sum(1, true).sqrt();
    s = s / length * (0.3 * length / length.max()).clamp_min(0.08);
    arrows.u = numbers(s.select(1, 0)), arrows.v = numbers(s.select(1, 1));
    const auto level = noisy(sigma);
    const double between = root([&](double x) { return score_by_hand(o, x, level); }, -0.7, 0.7);
    if (sigma < 0.6) zero.x = {between, between}, zero.y = {-1.5, 1.5};
    Panel panel{"x", "y", {map, arrows}, title};
    if (!zero.x.empty()) panel.curves.push_back(zero);
    return panel;
}

Exhibit field_exhibit(const ScoreOptions& o, const Denoiser& learned) {
    const auto exact = mixture_denoiser(modes(o.std, o.right));
    return {"field",
            "Arrows point to the data, longer where it is far (their lengths are scaled). With little noise a line "
            "parts the modes; with much noise they are one. A network that saw points alone finds the same, but where "
            "there are none.",
            {"Density and score of two modes",
             {field_panel(o, 0.2, exact, "exact, sigma = 0.2"), field_panel(o, 0.2, learned, "learned, sigma = 0.2"),
              field_panel(o, 1.2, exact, "exact, sigma = 1.2")}}};
}

Exhibit langevin_exhibit(const torch::Tensor& stuck, const torch::Tensor& free) {
    return {"langevin",
            "At one low noise level samples stay where they began: the way between the modes leads through "
            "where there are hardly any. Levels from high to low first share out the modes, then sharpen them.",
            {"Langevin dynamics",
             {{"x", "y", {cloud("begun in the left mode, sigma = 0.1", stuck)}, "one level"},
              {"x", "y", {cloud("begun in noise", free)}, "annealed"}}}};
}

void run_score(Findings& f, ScoreOptions o, Draws& random) {
    check_score(f, o);
    check_speciation(f, o.std);
    check_mixing(f, o, random);
    const auto [last, free] = anneal(o, 150, random);
    check_annealed(f, o, last);
    const auto learned = learned_denoiser(o, random);
    check_learned(f, o, learned, random);
    f.exhibits = {field_exhibit(o, learned), langevin_exhibit(at_one_level(o, 0.1, 0.1, 400, random), free)};
}

}  // namespace

Experiment score_experiment() {
    return experiment(
        "the score of two modes, where they merge, and why one noise level does not mix between them",
        {"For two modes at +-m the score is (-x + alpha m tanh(alpha m x / v + log(w+/w-) / 2)) / v across and -y / v "
         "along, v = alpha² s² + sigma². Equal modes are one where sigma / alpha > sqrt(m² - s²): the time of "
         "speciation.",
         "Langevin dynamics y' = y + h ∇log p + sqrt(2h) z cross a barrier in a time that grows exponentially with it. "
         "At high noise there is none, so levels are walked from high to low (Song & Ermon 2019)."},
        {"src/diffusion/analytic.cpp", "src/diffusion/objective.cpp", "src/solve/langevin.cpp", "src/lab/score.cpp"},
        run_score);
}

}  // namespace diffuse::lab
