#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "diffuse/base/progress.hpp"
#include "diffuse/diffusion/analytic.hpp"
#include "diffuse/diffusion/guidance.hpp"
#include "diffuse/run/sample_options.hpp"
#include "diffuse/solve/sampler.hpp"
#include "lab/experiments.hpp"

/// Every solver on every path, at its own defaults, on data whose exact denoiser is linear: what variance it draws,
/// beside a recursion of that number alone and beside the truth.
namespace diffuse::lab {
namespace {

struct SolversOptions {
    int64_t numbers = 2000, paths = 3;
};

Fields fields(SolversOptions& o) {
    return {{"numbers", Number<int64_t>{&o.numbers, 500, 100'000}, "numbers drawn for each variance"},
            {"paths", Number<int64_t>{&o.paths, 1, 9},
             "so many of the paths are drawn on; on all, variances are known without a draw"}};
}

/// A level as N(0, v) sees it: x_t has the variance `all`, and the exact denoiser is x0 = of_x0 x, eps = of_eps x.
struct Seen {
    double t, alpha, sigma, all, of_x0, of_eps;

    Seen(const NoiseLevel& level, double v)
        : t(level.t),
          alpha(level.alpha),
          sigma(level.sigma),
          all(alpha * alpha * v + sigma * sigma),
          of_x0(alpha * v / all),
          of_eps(sigma / all) {}
    double ratio() const { return sigma / alpha; }
    double lambda() const { return std::log(alpha / sigma); }
};

double square(double x) { return x * x; }

/// What a step makes of the variance of x. It remembers what a method of several steps does.
using Recursion = std::function<double(double variance, const Seen& from, const Seen& to)>;

/// What the process adds from a level to a noisier one, x_t = a x_s + b z, and the posterior's variance of x_s.
struct Added {
    double a, b2, posterior;
    Added(const Seen& noisy, const Seen& clean)
        : a(noisy.alpha / clean.alpha),
          b2(square(noisy.sigma) - square(a * clean.sigma)),
          posterior(b2 * square(clean.sigma / noisy.sigma)) {}
};

/// Ho et al. 2020, eqs. 6 and 7.
double ddpm(double variance, const Seen& from, const Seen& to) {
    const Added added(from, to);
    const double of_x0 = to.alpha * added.b2 / square(from.sigma), of_x = added.a * square(to.sigma / from.sigma);
    return square(of_x0 * from.of_x0 + of_x) * variance + added.posterior;
}

/// Song et al. 2021, eq. 12, whose noise of eq. 16 is eta times the posterior's, for levels of any scale.
Recursion ddim(double eta) {
    return [=](double variance, const Seen& from, const Seen& to) {
        const double fresh2 = eta * eta * Added(from, to).posterior;
        const double factor = to.alpha * from.of_x0 + std::sqrt(square(to.sigma) - fresh2) * from.of_eps;
        return square(factor) * variance + fresh2;
    };
}

/// Heun's method on dy/dr = eps, or on dz/ds = x0 with z = x / sigma and s = 1 / r, whichever way is shorter.
double heun(double variance, const Seen& from, const Seen& to) {
    if (to.sigma == 0) return square(from.of_x0) * variance;
    const bool in_ratio = from.ratio() * to.ratio() <= 1;
    const auto scale = [&](const Seen& at) { return in_ratio ? at.alpha : at.sigma; };
    const auto slope = [&](const Seen& at) { return scale(at) * (in_ratio ? at.of_eps : at.of_x0); };
    const double h = in_ratio ? to.ratio() - from.ratio() : 1 / to.ratio() - 1 / from.ratio();
    const double factor = 1 + h / 2 * (slope(from) + slope(to) * (1 + h * slope(from)));
    return square(factor * scale(to) / scale(from)) * variance;
}

/// x and x0 of the last levels of a deterministic walk, newest last, as factors of where it began.
struct Walked {
    double x = 1;
    std::vector<double> lambdas, x0s;

    void note(const Seen& at) { lambdas.push_back(at.lambda()), x0s.push_back(at.of_x0 * x); }
    /// The slope of x0 over lambda between the last two.
    double slope() const {
        const size_t last = x0s.size() - 1;
        return last == 0 ? 0 : (x0s[last] - x0s[last - 1]) / (lambdas[last] - lambdas[last - 1]);
    }
};

/// Lu et al. 2022, arXiv:2211.01095, algorithm 2.
Recursion dpmpp_2m() {
    return [walked = Walked()](double variance, const Seen& from, const Seen& to) mutable {
        const double before = walked.x;
        walked.note(from);
        if (to.sigma == 0) return square(walked.x0s.back() / before) * variance;
        const double h = to.lambda() - from.lambda();
        const double x0 = walked.x0s.back() + h / 2 * walked.slope();
        walked.x = to.sigma / from.sigma * before + to.alpha * (1 - std::exp(-h)) * x0;
        return square(walked.x / before) * variance;
    };
}

/// Zhao et al. 2023, arXiv:2302.04867, algorithms 1 and 2 of order 2 with B(h) = e^h - 1, predicting x0: the
/// corrector's weights solve a linear system of two rows, of one at the first step.
class UniPc {
public:
    double operator()(double variance, const Seen& from, const Seen& to) {
        const double before = walked_.x, start = last_ ? corrected(from) : before;
        walked_.note(from);  // what the network says where the last step ended, before it is corrected
        const double x0 = walked_.x0s.back();
        const double h = to.sigma == 0 ? 0 : to.lambda() - from.lambda();
        walked_.x = to.sigma == 0 ? x0 : moved(start, from, to, x0 + h / 2 * walked_.slope());
        last_ = {start, from};
        return square(walked_.x / before) * variance;
    }

private:
    /// The exact step where x0 rests.
    static double moved(double x, const Seen& from, const Seen& to, double x0) {
        return to.sigma / from.sigma * x + to.alpha * (1 - std::exp(from.lambda() - to.lambda())) * x0;
    }
    /// x at `at` again, by what the network says there: exact where x0 is a polynomial of degree 2 in lambda. The mean
    /// over the step has the weights h e^(h (u - 1)), u from 0 to 1.
    double corrected(const Seen& at) const {
        const auto& [start, from] = *last_;
        const double h = at.lambda() - from.lambda(), x0 = walked_.x0s.back(), here = at.of_x0 * walked_.x - x0;
        if (walked_.x0s.size() == 1) return moved(start, from, at, x0 + here / 2);
        const double mass = 1 - std::exp(-h), mean_u = 1 / mass - 1 / h, mean_u2 = 1 / mass - 2 * mean_u / h;
        const double before = (walked_.lambdas[walked_.lambdas.size() - 2] - from.lambda()) / h;
        const double of_slope = (mean_u - mean_u2) / (1 - before);
        return moved(start, from, at, x0 + of_slope * h * walked_.slope() + (mean_u - of_slope) * here);
    }

    Walked walked_;
    std::optional<std::pair<double, Seen>> last_;  ///< where the last step began
};

/// The exact flow of the ODE: x / alpha goes like the deviation of the noisy data.
double exact_flow(double variance, const Seen& from, const Seen& to) { return to.all / from.all * variance; }

/// Euler and Maruyama's step of dx = [f x + g^2 eps / sigma] dt + g dw, and to data the mean of x0.
Recursion process_step(const Schedule& schedule) {
    return [=](double variance, const Seen& from, const Seen& to) {
        if (to.sigma == 0) return square(from.of_x0) * variance;
        const Sde sde = schedule.sde(from.t);
        const double h = to.t - from.t, drift = sde.f + sde.g2 / from.sigma * from.of_eps;
        return square(1 + h * drift) * variance + sde.g2 * std::abs(h);
    };
}

/// Song et al. 2021, arXiv:2011.13456, eq. 46.
double reverse_diffusion(double variance, const Seen& from, const Seen& to) {
    if (to.sigma == 0) return square(from.of_x0) * variance;
    const Added added(from, to);
    return square(2 - added.a - added.b2 / from.sigma * from.of_eps) * variance + added.b2;
}

/// y + h score + sqrt(2 h) z at a level, in x = alpha y: the score of y is -eps / r.
double langevin_step(double variance, const Seen& at, double h) {
    return square(1 - h / at.sigma * at.of_eps) * variance + 2 * h;
}

/// Algorithms 2 to 5: the predictor above, then a corrector of h = 2 (snr sigma)^2.
double predictor_corrector(double variance, const Seen& from, const Seen& to) {
    const double predicted = reverse_diffusion(variance, from, to);
    return to.sigma == 0 ? predicted : langevin_step(predicted, to, 2 * square(0.16 * to.sigma));
}

/// Song & Ermon 2019, algorithm 1, with h = 0.2 sigma^2 and five steps a level; then E[x0 | x].
double langevin(double variance, const Seen& from, const Seen& to) {
    for (int k = 0; k < 5; ++k) variance = langevin_step(variance, from, 0.2 * square(from.sigma));
    return to.sigma == 0 ? square(from.of_x0) * variance : square(to.alpha / from.alpha) * variance;
}

/// Karras et al. 2022, algorithm 2 with table 5's gamma of 40 / 256, in y = x / alpha.
double edm_sde(double variance, const Seen& from, const Seen& to) {
    const double v = (from.all - square(from.sigma)) / square(from.alpha), r = from.ratio(), next = to.ratio();
    const bool churns = r >= 0.05 && r <= 50;
    const double raised = churns ? r * (1 + 40.0 / 256) : r, added = square(1.003) * (square(raised) - square(r));
    const auto slope = [=](double at) { return at / (v + at * at); };
    const double h = next - raised, euler = 1 + h * slope(raised);
    const double factor = to.sigma == 0 ? euler : 1 + h / 2 * (slope(raised) + slope(next) * euler);
    return square(to.alpha * factor) * (variance / square(from.alpha) + added);
}

/// A solver by its name, and the recursion that it should follow on a schedule.
struct Row {
    std::string name, solver;
    std::optional<double> eta;
    std::function<Recursion(const Schedule& schedule)> recursion;
};

/// The same on every schedule.
std::function<Recursion(const Schedule&)> always(const Recursion& recursion) {
    return [=](const Schedule&) { return recursion; };
}

std::vector<Row> rows() {
    return {{"ddpm", "ddpm", {}, always(ddpm)},
            {"ddim", "ddim", 0, always(ddim(0))},
            {"ddim, eta 0.5", "ddim", 0.5, always(ddim(0.5))},
            {"ddim, eta 1", "ddim", 1, always(ddim(1))},
            {"heun", "heun", {}, always(heun)},
            {"unipc", "unipc", {}, always(UniPc())},
            {"dpmpp-2m", "dpmpp-2m", {}, always(dpmpp_2m())},
            {"dopri5", "dopri5", {}, always(exact_flow)},
            {"euler-maruyama", "euler-maruyama", {}, process_step},
            {"reverse-diffusion", "reverse-diffusion", {}, always(reverse_diffusion)},
            {"pc", "pc", {}, always(predictor_corrector)},
            {"langevin", "langevin", {}, always(langevin)},
            {"edm-sde", "edm-sde", {}, always(edm_sde)}};
}

struct PathOf {
    std::string name;
    ScheduleOptions options;
};
const std::vector<PathOf>& paths() {
    static const std::vector<PathOf> all = [] {
        std::vector<PathOf> some;
        for (const std::string kind : {"linear", "ve", "flow", "sub-vp", "edm", "cosine", "vp", "cosine-vp"}) {
            some.push_back({kind, {.kind = kind}});
        }
        some.push_back({"zero-terminal", {.kind = "linear", .zero_terminal_snr = true}});
        return some;
    }();
    return all;
}

/// A walk of a row on a path over N(0, v), and what it should make of it.
struct Walk {
    SampleOptions options;
    SolverOptions of_solver;
    Schedule schedule;
    Grid grid;
    double v;

    Walk(const Row& row, const PathOf& path, double variance, int64_t dimensions)
        : schedule(make_schedule(path.options)), v(variance) {
        options.solver = row.solver;
        options.solver_options.eta = row.eta;
        grid = make_grid(options, schedule, dimensions);
        of_solver = options.solver_options;
        of_solver.schedule = std::make_shared<Schedule>(schedule);
        of_solver.steps = std::ssize(grid) - 1;
        if (v == 0) grid.pop_back();  // of one point, the last step gives that point: the level before says more
    }

    /// The variance that is right.
    double truth() const { return Seen(grid.back(), v).all; }

    double recursion(const Row& row) const {
        const Recursion step = row.recursion(schedule);
        double variance = square(scale_of(grid.front()));
        for (size_t i = 0; i + 1 < grid.size(); ++i) variance = step(variance, {grid[i], v}, {grid[i + 1], v});
        return variance;
    }

    /// Exactly, without a draw: x at the end is a sum of what it began with and of every noise on the way, whose
    /// factors are read off by giving each a place of its own.
    double walked() const {
        const int64_t noises = options.solver == "langevin" ? 5 : 2;  // of a step, at most
        const int64_t steps = std::ssize(grid) - 1, places = options.stochastic() ? 1 + steps * noises : 1;
        const auto one_at = [&](int64_t place) {
            const auto x = torch::zeros({1, places}, torch::kFloat64);
            x[0][place] = 1;
            return x;
        };
        const auto noise = [&](int64_t step, int64_t k) { return one_at(1 + step * noises + k); };
        const auto end = integrate(*make_solver(options.solver, of_solver), gaussian_denoiser(0, std::sqrt(v)),
                                   scale_of(grid.front()) * one_at(0), grid, noise, [](int64_t, const auto&) {});
        return end.square().sum().item<double>();
    }

    /// Drawn as samples are, [N, dimensions], `numbers` or a little more in all.
    torch::Tensor drawn(int64_t numbers, int64_t dimensions, uint64_t seed) const {
        const int64_t count = (numbers + dimensions - 1) / dimensions;
        const Denoiser denoiser = gaussian_denoiser(0, std::sqrt(v));
        const Sampler sampler{.solver = [&] { return make_solver(options.solver, of_solver); },
                              .denoiser = [&](const Condition&, const Counter&) { return StepDenoiser(denoiser); },
                              .grid = grid,
                              .seed = seed};
        return run(sampler, sampling_noise(seed, 0, count, {dimensions}, 0)).x;
    }
};

/// The tolerance of dopri5's steps, and rounding of the others.
double tolerance_of(const Row& row) { return row.solver == "dopri5" ? 2e-3 : 1e-8; }

/// What a row makes of N(0, v) on each path: the variance that it draws, by its walk and by its recursion, and the
/// right one.
struct Entry {
    double walked, recursion, truth;
    double error() const { return std::abs(walked / recursion - 1); }
    std::string percent_above() const { return fmt::format("{:+.1f}", 100 * (walked / truth - 1)); }
};
std::vector<Entry> entries_of(const Row& row, double v) {
    std::vector<Entry> entries;
    for (const auto& path : paths()) {
        const Walk walk(row, path, v, 784);
        entries.push_back({walk.walked(), walk.recursion(row), walk.truth()});
    }
    return entries;
}

/// Data by its variance, and the table of what each solver makes of it.
struct Kind {
    double v;
    std::string name, caption;
    Cells cells = {};
};
std::vector<Kind> kinds() {
    const std::string steps = "each solver in its own steps and spacing (steps: on linear, of 784 numbers)";
    return {{1, "wide", "Variance of N(0, 1), in percent above the right one, by " + steps + "."},
            {0.25, "narrow", "The same of N(0, 1/4)."},
            {0, "point",
             "Of data in one point: the noise before the last step, which leads to that point; in percent above the "
             "level's "
             "own sigma²."}};
}

void check_recursion(Findings& f, const Row& row, std::vector<Kind>& all) {
    double worst = 0;
    for (auto& kind : all) {
        auto& line = kind.cells.emplace_back(std::vector<std::string>{
            row.name, std::to_string(std::ssize(Walk(row, paths().front(), 1, 784).grid) - 1)});
        for (const auto& entry : entries_of(row, kind.v)) {
            line.push_back(entry.percent_above());
            worst = std::max(worst, entry.error());
        }
    }
    f.check(fmt::format("{}: largest relative error of the variance, of 27", row.name), worst, 0, tolerance_of(row),
            row.solver == "dopri5" ? "the exact flow; the steps' tolerance" : "the recursion of its formula; rounding");
}

/// Of one number and of many, since nothing that a solver does should depend on how many there are.
void check_draws(Findings& f, const Row& row, const SolversOptions& o, uint64_t seed) {
    const std::vector<int64_t> dimensions = {1, 2, 5, 784};
    double worst = 0;
    for (int64_t i = 0; i < o.paths; ++i) {
        for (const int64_t many : dimensions) {
            const Walk walk(row, paths()[size_t(i)], 0.25, many);
            const auto x = walk.drawn(o.numbers, many, seed);
            const double relative = x.square().mean().item<double>() / walk.recursion(row) - 1;
            worst = std::max(worst, std::abs(relative) / std::sqrt(2 / double(x.numel())));
        }
    }
    // The largest of 36, as there are on all nine paths, is above 4.5 in one of 4,000 experiments.
    f.check(fmt::format("{}: largest distance of {} drawn variances, in standard errors", row.name,
                        o.paths * std::ssize(dimensions)),
            worst, 0, 4.5, "the same recursion, in 1, 2, 5 and 784 dimensions");
}

/// x / alpha of N(0, v) goes along the ODE like sqrt(v + r^2), and guided by w = scale - 1 from S^2 to s^2 like the
/// powers of both: dopri5's variance of s^2 = 1 against S^2 = 2, guided by w = 2 in (lo, hi].
void check_guidance(Findings& f) {
    constexpr double s2 = 1, S2 = 2, w = 2, lo = 0.3, hi = 3;
    const Denoiser plain = gaussian_denoiser(0, std::sqrt(s2));
    const Denoiser guide = guided(plain, gaussian_denoiser(0, std::sqrt(S2)), w + 1);
    SampleOptions options{.solver = "dopri5", .guidance = w + 1, .guidance_interval = {{lo, hi}}};
    double worst = 0;
    for (const auto& path : paths()) {
        const Grid grid = make_grid(options, make_schedule(path.options), /*dimensions=*/1);
        const StepDenoiser denoiser(StepDenoiser::OfStep([&](const NoiseLevel& from, const NoiseLevel& to) {
            return is_guided(options, /*has_condition=*/true, from, to) ? guide : plain;
        }));
        const auto start = torch::full({1, 1}, scale_of(grid.front()), torch::kFloat64);
        const double end =
            integrate(*make_solver("dopri5", {.tolerance = 1e-7}), denoiser, start, grid, {}, [](int64_t, const auto&) {
            }).item<double>();
        const double r02 = square(grid.front().ratio());
        const double exact = (1 + r02) * s2 / (s2 + r02) * std::pow((s2 + lo * lo) / (s2 + hi * hi), w) *
                             std::pow((S2 + hi * hi) / (S2 + lo * lo), w);
        worst = std::max(worst, std::abs(end * end / exact - 1));
    }
    f.check(
        "guidance in (0.3, 3] by dopri5: largest relative error of the variance, of 9", worst, 0, 1e-5,
        "(1 + r0²) s²/(s² + r0²) [(s² + lo²)/(s² + hi²)]^w [(S² + hi²)/(S² + lo²)]^w = 0.329 on linear; the tolerance");
}

void run_solvers(Findings& f, SolversOptions o, Draws& random) {
    std::vector<Kind> all = kinds();
    for (auto& kind : all) {
        auto& head = kind.cells.emplace_back(std::vector<std::string>{"solver", "steps"});
        for (const auto& path : paths()) head.push_back(path.name);
    }
    const auto solvers = rows();
    Progress progress("solvers: solver", std::ssize(solvers));
    for (const auto& row : solvers) check_recursion(f, row, all);
    for (int64_t i = 0; i < std::ssize(solvers); ++i) {
        check_draws(f, solvers[size_t(i)], o, random.seed());
        progress.update(i + 1);
    }
    check_guidance(f);
    for (const auto& kind : all)
        f.exhibits.push_back({.name = kind.name, .caption = kind.caption, .cells = kind.cells});
}

}  // namespace

Experiment solvers_experiment() {
    return experiment<SolversOptions>(
        "the variance that every solver draws on every path, beside its recursion and beside the truth",
        {"On N(0, v) the exact denoiser is linear, x0 = alpha v / (alpha² v + sigma²) x. So a step makes a² V + b² of "
         "a "
         "variance V, and what a solver draws is known without a draw: the recursion of its formula.",
         "What is left is the error of its steps: of first order for ddim and ddpm, of second for heun, unipc and "
         "dpmpp-2m. Methods with noise forget errors on the way and make new ones at each level."},
        {"src/solve", "src/lab/solvers.cpp"}, run_solvers);
}

}  // namespace diffuse::lab
