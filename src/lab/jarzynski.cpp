#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "diffuse/base/progress.hpp"
#include "lab/experiments.hpp"

/// Work done on an overdamped particle in a harmonic trap, k = gamma = kT = 1, dx = -k (x - a) dt + sqrt(2) dW.
namespace diffuse::lab {
namespace {

using std::numbers::pi;

struct JarzynskiOptions {
    int64_t paths = 20'000, steps = 200;
};

Fields fields(JarzynskiOptions& o) {
    return {{"paths", Number<int64_t>{&o.paths, 10'000, 100'000}, "paths"},
            {"steps", Number<int64_t>{&o.steps, 50, 2000}, "steps in a unit of time"}};
}

constexpr int64_t kTimeOfAll = 29;  ///< for which traps are moved in this file

/// Paths in traps that are moved, and the steps that are done of all.
struct Traps {
    JarzynskiOptions o;
    Draws& random;
    int64_t done = 0;
    Progress progress{"jarzynski: step", kTimeOfAll* o.steps};

    void count_step() { progress.update(++done); }
};

/// The exact move in a resting trap for a time dt.
torch::Tensor relax(const torch::Tensor& x, double centre, double stiffness, double dt, Draws& random) {
    const double decay = std::exp(-stiffness * dt);
    return centre + decay * (x - centre) + std::sqrt((1 - decay * decay) / stiffness) * random.normal(x.sizes());
}

/// Work on each path where the trap is dragged at a speed for a time: half a move, a push, half a move.
torch::Tensor drag(Traps& traps, double speed, double time) {
    const auto& [paths, steps_of_unit] = traps.o;
    const auto steps = int64_t(std::ceil(time * double(steps_of_unit)));
    const double dt = time / double(steps), push = speed * dt;
    auto x = traps.random.normal({paths}), work = torch::zeros({paths}, torch::kFloat64);
    for (int64_t i = 0; i < steps; ++i) {
        const double before = double(i) * push, after = before + push;
        x = relax(x, before, 1, dt / 2, traps.random);
        work += ((x - after).square() - (x - before).square()) / 2;
        x = relax(x, after, 1, dt / 2, traps.random);
        traps.count_step();
    }
    return work;
}

/// Work where the stiffness goes from one value to another, in equal steps; in no time where `time` is 0.
torch::Tensor stiffen(Traps& traps, double from, double to, double time) {
    const auto& [paths, steps_of_unit] = traps.o;
    const int64_t steps = time == 0 ? 1 : int64_t(std::ceil(time * double(steps_of_unit)));
    auto x = traps.random.normal({paths}) / std::sqrt(from), work = torch::zeros({paths}, torch::kFloat64);
    for (int64_t i = 0; i < steps; ++i) {
        const double before = from + (to - from) * double(i) / double(steps);
        const double after = from + (to - from) * double(i + 1) / double(steps), dt = time / double(steps);
        if (time > 0) x = relax(x, 0, before, dt / 2, traps.random);
        work += (after - before) * x.square() / 2;
        if (time == 0) continue;
        x = relax(x, 0, after, dt / 2, traps.random);
        traps.count_step();
    }
    return work;
}

double mean_work(double speed, double time) { return speed * speed * (time + std::exp(-time) - 1); }

void check_drag(Findings& f, Traps& traps) {
    struct Row {
        double speed, time;
    };
    for (const auto& [speed, time] : {Row{1, 1}, Row{1, 5}, Row{2, 2}}) {
        const auto work = drag(traps, speed, time);
        const double mean = mean_work(speed, time);
        const std::string how = fmt::format("speed {}, time {}", speed, time);
        f.check_mean("mean work of dragging, " + how, work, mean, "v² (tau + e^-tau - 1)");
        f.check_variance("its variance, " + how, work, mean, 2 * mean, "2 <W>");
        if (mean < 1) f.check_mean("mean of exp(-W), " + how, (-work).exp(), 1, "exp(-dF), dF = 0 (Jarzynski 1997)");
    }
    // Crooks: E_F[1(W > a) exp(-W)] = exp(-dF) P_R(-W > a), of which the right side is known.
    const auto there = drag(traps, 1, 1);
    const double gentle = mean_work(1, 1);
    for (const double a : {-0.5, 0.5}) {
        f.check_mean(fmt::format("Crooks: mean of exp(-W) where W > {}, speed 1, time 1", a),
                     (there > a) * (-there).exp(), normal_cdf(-(a + gentle) / std::sqrt(2 * gentle)),
                     "P(-W > a) of the way back (Crooks 1999)");
    }
    const double speed = std::sqrt(8 / mean_work(1, 1));
    const auto work = drag(traps, speed, 1);
    f.check_mean("share of paths with W < 0 where <W> = 8", work < 0, normal_cdf(-2), "Phi(-<W> / sqrt(2 <W>))");
    const auto batches = (-work.narrow(0, 0, traps.o.paths / 100 * 100).view({-1, 100})).exp().mean(1).log().neg();
    f.check_true("100 paths miss dF = 0 by more than 1 there, most of the time", batches.median().item<double>() > 1,
                 "about e^8 paths are needed (Jarzynski 2006)");
}

void check_stiffness(Findings& f, Traps& traps) {
    const double factor = std::sqrt(0.5);  // exp(-dF), dF = log(2) / 2
    const auto at_once = stiffen(traps, 1, 2, 0), slow = stiffen(traps, 1, 2, 5);
    f.check_mean("mean work of stiffness 1 to 2 at once", at_once, 0.5, "<x²> / 2");
    f.check_mean("mean of exp(-W), at once", (-at_once).exp(), factor, "exp(-dF) = sqrt(1/2)");
    f.check_mean("mean of exp(-W), in a time of 5", (-slow).exp(), factor, "exp(-dF) = sqrt(1/2)");
    f.check_mean("mean of exp(-W) on the way back, in a time of 5", (-stiffen(traps, 2, 1, 5)).exp(), 1 / factor,
                 "exp(dF) = sqrt(2)");
}

double log_target(double x) { return -2 * double_well(x); }
constexpr double kPartition = 1.410915;  // int exp(-2 (x^2 - 1)^2), by quadrature

/// Annealed importance sampling from N(0, 1) to the double well: log weights, five Metropolis moves a rung.
torch::Tensor annealed_weights(int64_t particles, int64_t rungs, Draws& random) {
    auto x = random.normal({particles}), weight = torch::zeros({particles}, torch::kFloat64);
    const auto target = [](const torch::Tensor& at) { return -2 * (at.square() - 1).square(); };
    const auto base = [](const torch::Tensor& at) { return -at.square() / 2; };
    for (int64_t k = 1; k <= rungs; ++k) {
        const double beta = double(k) / double(rungs);
        weight += (target(x) - base(x)) / double(rungs);
        const auto log_p = [&](const torch::Tensor& at) { return beta * target(at) + (1 - beta) * base(at); };
        for (int move = 0; move < 5; ++move) {
            const auto proposal = x + 0.7 * random.normal({particles});
            x = torch::where(random.uniform({particles}).log() < log_p(proposal) - log_p(x), proposal, x);
        }
    }
    return weight;
}

/// The effective share of the sample: (mean w)^2 / mean w^2.
double effective_share(const torch::Tensor& log_weights) {
    const auto w = (log_weights - log_weights.max()).exp();
    return (w.mean().square() / w.square().mean()).item<double>();
}

void check_annealing(Findings& f, const JarzynskiOptions& o, Draws& random) {
    f.check("partition function of the double well by quadrature",
            integral([](double x) { return std::exp(log_target(x)); }, -3, 3), kPartition, 1e-6,
            "tests/golden/double_well.py");
    for (const int64_t rungs : {1, 20}) {
        const auto weight = annealed_weights(o.paths / 2, rungs, random);
        f.check_mean(fmt::format("the same by annealed importance sampling, {} rungs", rungs),
                     std::sqrt(2 * pi) * weight.exp(), kPartition, "the same number (Neal 1998)");
    }
}

Exhibit work_exhibit(Traps& traps) {
    Panel laws{"work W", "density", {}, "dragged at speed 1 (points: measured)"};
    for (const double time : {1.0, 5.0}) {
        const double mean = mean_work(1, time), std = std::sqrt(2 * mean), low = mean - 4 * std, high = mean + 4 * std;
        const auto normal = [=](double w) {
            return std::exp(-std::pow((w - mean) / std, 2) / 2) / (std * std::sqrt(2 * pi));
        };
        laws.curves.push_back(formula(fmt::format("time {}: N(<W>, 2 <W>)", time), spaced(low, high, 161), normal));
        laws.curves.push_back(histogram("", drag(traps, 1, time), low, high, 40));
    }
    Panel estimates{"paths", "estimate of dF (0 is right)", {}, "-log mean exp(-W)", /*log_x=*/true};
    for (const double mean : {0.5, 2.0, 8.0}) {
        const auto work = drag(traps, std::sqrt(mean / mean_work(1, 1)), 1);
        Curve curve{fmt::format("<W> = {}", mean), {}, {}};
        for (int64_t n = 10; n <= work.size(0); n *= 3) {
            curve.x.push_back(double(n));
            curve.y.push_back(-std::log((-work.narrow(0, 0, n)).exp().mean().item<double>()));
        }
        estimates.curves.push_back(std::move(curve));
    }
    const auto share = [&](double rungs) {
        return effective_share(annealed_weights(4000, int64_t(rungs), traps.random));
    };
    const std::vector<double> counts = {1, 2, 5, 10, 20, 50, 100};
    const Panel rungs{"rungs of the ladder",
                      "effective share of the paths",
                      {{"N(0, 1) to the double well", counts, at_each(counts, share)}},
                      "annealed importance sampling",
                      /*log_x=*/true};
    return {
        "work",
        "Fast work is wide; the mean of exp(-W) then hangs on paths that are hardly ever seen. Many small steps, as in "
        "annealing, keep all paths alive.",
        {"Work and free energy", {laws, estimates, rungs}}};
}

void run_jarzynski(Findings& f, JarzynskiOptions o, Draws& random) {
    Traps traps{o, random};
    check_drag(f, traps);
    check_stiffness(f, traps);
    check_annealing(f, o, random);
    f.exhibits = {work_exhibit(traps)};
}

}  // namespace

Experiment jarzynski_experiment() {
    return experiment(
        "work on a dragged and on a stiffened trap, Jarzynski's and Crooks's relations, annealed importance sampling",
        {"However fast a system is driven from equilibrium, the mean of exp(-W) is exp(-dF) (Jarzynski 1997), and "
         "P_F(W) / P_R(-W) = exp(W - dF) (Crooks 1999). A dragged trap does the work N(<W>, 2 <W>) with <W> = v² (tau "
         "+ e^-tau - 1) and dF = 0; stiffness 1 to 2 has dF = log(2) / 2.",
         "Annealed importance sampling (Neal 1998, physics/9803008) is the same identity on a ladder of densities. The "
         "mean of exp(-W) needs about exp(<W> + dF) paths, where <W> is that of the way back."},
        {"src/lab/jarzynski.cpp"}, run_jarzynski);
}

}  // namespace diffuse::lab
