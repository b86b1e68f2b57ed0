#include <fmt/format.h>

#include <cmath>

#include "diffuse/diffusion/schedule.hpp"
#include "lab/experiments.hpp"

/// The paths of the schedules: what is left of an image, and how much noise there is.
namespace diffuse::lab {
namespace {

constexpr double kLowBeta = 0.1, kHighBeta = 20;  // of vp and sub-vp

struct VpVeOptions {
    int64_t paths = 20'000, steps = 500;
};

Fields fields(VpVeOptions& o) {
    return {{"paths", Number<int64_t>{&o.paths, 1000, 100'000}, "paths of the forward SDE"},
            {"steps", Number<int64_t>{&o.steps, 100, 2000}, "steps of each"}};
}

/// The integral of beta from 0 to u.
double beta_integral(double u) { return kLowBeta * u + (kHighBeta - kLowBeta) * u * u / 2; }

/// alpha and sigma at u by the papers' formulas.
NoiseLevel by_formula(const std::string& kind, double u) {
    const double decay = std::exp(-beta_integral(u));
    if (kind == "vp") return {std::sqrt(decay), std::sqrt(1 - decay)};
    if (kind == "sub-vp") return {std::sqrt(decay), 1 - decay};
    if (kind == "ve") return {1, 0.01 * std::pow(5000, u)};
    return {1 - u, u};
}

const std::vector<std::string> kKinds = {"vp", "sub-vp", "ve", "flow"};

void check_marginals(Findings& f) {
    const std::vector<std::string> sources = {"exp(-int beta / 2), sigma² = 1 - alpha²",
                                              "the same alpha, sigma = 1 - alpha²",
                                              "sigma_min (sigma_max / sigma_min)^u", "1 - u, u"};
    for (size_t i = 0; i < kKinds.size(); ++i) {
        const Schedule schedule = make_schedule({.kind = kKinds[i]});
        double largest = 0;
        for (const double t : {1.0, 10.0, 333.0, 777.5, 999.0}) {
            const NoiseLevel found = schedule.at(t), exact = by_formula(kKinds[i], t / 1000);
            largest = std::max({largest, std::abs(found.alpha - exact.alpha), std::abs(found.sigma / exact.sigma - 1)});
        }
        f.check(fmt::format("{}: largest error of alpha and relative one of sigma", kKinds[i]), largest, 0, 1e-12,
                sources[i] + "; rounding");
    }
}

/// The exact move of dx = f x dt + g dw for a time h in which f and g rest.
torch::Tensor exact_move(const torch::Tensor& x, const Sde& sde, double h, Draws& random) {
    const double growth = std::expm1(2 * sde.f * h), variance = sde.f == 0 ? h * sde.g2 : sde.g2 * growth / (2 * sde.f);
    return std::exp(sde.f * h) * x + std::sqrt(variance) * random.normal(x.sizes());
}

/// x at t of the forward SDE from x = 1, with f and g as in the middle of each step.
torch::Tensor forward(const Schedule& schedule, double t, const VpVeOptions& o, Draws& random) {
    auto x = torch::ones({o.paths}, torch::kFloat64);
    const double h = (t - 1) / double(o.steps);
    const NoiseLevel first = schedule.at(1);
    x = first.alpha * x + first.sigma * random.normal({o.paths});
    for (int64_t i = 0; i < o.steps; ++i) {
        const Sde sde = schedule.sde(1 + (double(i) + 0.5) * h);
        x = exact_move(x, sde, h, random);
    }
    return x;
}

void check_forward(Findings& f, const VpVeOptions& o, Draws& random) {
    for (const auto& kind : kKinds) {
        constexpr double kTime = 400;
        const auto x = forward(make_schedule({.kind = kind}), kTime, o, random);
        const NoiseLevel exact = by_formula(kind, kTime / 1000);
        f.check_mean(fmt::format("{}: mean of the forward SDE at u = 0.4 from x = 1", kind), x, exact.alpha, "alpha");
        f.check_variance(fmt::format("{}: its variance", kind), x, exact.alpha, exact.sigma * exact.sigma, "sigma²");
    }
}

/// DDPM's chain of `steps` whose betas are those of vp.
double log_alpha_of_chain(int64_t steps) {
    std::vector<double> betas;
    for (int64_t i = 0; i < steps; ++i) {
        betas.push_back((kLowBeta + (kHighBeta - kLowBeta) * (double(i) + 0.5) / double(steps)) / double(steps));
    }
    return std::log(Schedule(betas).at(double(steps)).alpha);
}

void check_chain(Findings& f) {
    f.check("order in beta of DDPM's sqrt(1 - beta) against Euler-Maruyama's 1 - beta / 2",
            order_of([](double b) { return std::abs(Schedule({b}).at(1).alpha - (1 - b / 2)); },
                     {0.1, 0.05, 0.025, 0.0125}),
            2, 0.05, "Taylor's series: beta² / 8");
    const double exact = -beta_integral(1) / 2;
    const auto error = [=](double dt) { return std::abs(log_alpha_of_chain(std::lround(1 / dt)) - exact); };
    f.check("order in 1 / T of DDPM's chain against vp",
            order_of(error, {1 / 500.0, 1 / 1000.0, 1 / 2000.0, 1 / 4000.0}), 1, 0.05, "Taylor's series");
    const double d = kHighBeta - kLowBeta, square = kLowBeta * kLowBeta + kLowBeta * d + d * d / 3;
    f.check("T times the difference of log alpha at T = 8000", 8000 * (exact - log_alpha_of_chain(8000)), square / 4,
            0.01 * square / 4, "int beta² / 4; the next term");
}

Exhibit paths_exhibit() {
    Panel alpha{"t / T", "alpha", {}}, sigma{"t / T", "sigma", {}, "", false, true}, snr{"t / T", "log SNR", {}};
    const auto u = spaced(0.001, 0.999, 100), some = spaced(0.05, 0.95, 10);
    for (const auto& kind : kKinds) {
        const Schedule schedule = make_schedule({.kind = kind});
        const auto curve = [&](Panel& panel, const std::function<double(const NoiseLevel&)>& of) {
            panel.curves.push_back(formula(kind, u, [&](double at) { return of(by_formula(kind, at)); }));
            panel.curves.push_back(measured("", some, [&](double at) { return of(schedule.at(1000 * at)); }));
        };
        curve(alpha, [](const NoiseLevel& level) { return level.alpha; });
        curve(sigma, [](const NoiseLevel& level) { return level.sigma; });
        curve(snr, [](const NoiseLevel& level) { return level.log_snr(); });
    }
    return {"paths",
            "One walk in log(sigma / alpha), in different times and at different scales. Lines are the papers' "
            "formulas, points the program's schedules.",
            {"Paths of the schedules (lines: formulas; points: the program's)", {alpha, sigma, snr}}};
}

Exhibit forward_exhibit(Draws& random) {
    Figure figure{"The forward SDE from x = 1 and x = -1", {}};
    for (const std::string kind : {"vp", "sub-vp", "ve"}) {
        const Schedule schedule = make_schedule({.kind = kind});
        std::vector<torch::Tensor> places;
        auto x = torch::ones({30}, torch::kFloat64);
        x.narrow(0, 0, 15).neg_();
        const double last = kind == "ve" ? 600 : 1000, h = (last - 1) / 200;
        std::vector<double> t, high, low;
        for (int i = 0; i < 200; ++i) {
            const Sde sde = schedule.sde(1 + (i + 0.5) * h);
            x = exact_move(x, sde, h, random);
            places.push_back(x);
            const double u = (1 + (i + 1) * h) / 1000;
            const NoiseLevel level = by_formula(kind, u);
            t.push_back(u), high.push_back(level.alpha + 2 * level.sigma),
                low.push_back(-level.alpha - 2 * level.sigma);
        }
        figure.panels.push_back({"t / T",
                                 "x",
                                 {paths_curve("30 paths", t, torch::stack(places, 1)),
                                  {"+-(alpha + 2 sigma)", t, high, Mark::kDashed},
                                  {"", t, low, Mark::kDashed}},
                                 kind});
    }
    return {"forward", "VP ends in N(0, 1), sub-VP has less noise on the way, VE only adds noise.", std::move(figure)};
}

void run_vp_ve(Findings& f, VpVeOptions o, Draws& random) {
    check_marginals(f);
    check_forward(f, o, random);
    check_chain(f);
    f.exhibits = {paths_exhibit(), forward_exhibit(random)};
}

}  // namespace

Experiment vp_ve_experiment() {
    return experiment(
        "paths of VP, sub-VP, VE and flow, their forward SDEs, and DDPM's chain as Euler-Maruyama of VP",
        {"A path is x_t = alpha x_0 + sigma eps, of the SDE dx = f x dt + g dw with f = alpha'/alpha and g² = 2 sigma² "
         "(log(sigma/alpha))'. VP keeps alpha² + sigma² = 1, VE has alpha = 1, sub-VP sigma = 1 - alpha² (Song et al. "
         "2021, arXiv:2011.13456).",
         "DDPM's step sqrt(1 - beta) x + sqrt(beta) z is Euler-Maruyama's (1 - beta/2) x + sqrt(beta) z up to beta² / "
         "8, so its chain of T steps is VP up to int beta² / (4 T)."},
        {"src/diffusion/schedule.cpp", "src/lab/vp_ve.cpp"}, run_vp_ve);
}

}  // namespace diffuse::lab
