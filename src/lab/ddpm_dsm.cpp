#include <fmt/format.h>

#include <cmath>

#include "diffuse/data/codec.hpp"
#include "diffuse/data/digits.hpp"
#include "diffuse/diffusion/analytic.hpp"
#include "diffuse/diffusion/objective.hpp"
#include "diffuse/train/batch.hpp"
#include "lab/experiments.hpp"

/// The DDPM loss and denoising score matching, on the same draws.
namespace diffuse::lab {
namespace {

struct DdpmDsmOptions {
    int64_t batch = 64, draws = 50'000;
};

Fields fields(DdpmDsmOptions& o) {
    return {{"batch", Number<int64_t>{&o.batch, 8, 512}, "images whose losses are compared"},
            {"draws", Number<int64_t>{&o.draws, 5000, 1'000'000}, "draws of the Gaussian data"}};
}

Batch some_batch(const DdpmDsmOptions& o, const Schedule& schedule, Draws& random) {
    auto bytes = torch::empty({o.batch, 1, kDigitSize, kDigitSize}, torch::kUInt8);
    for (int64_t i = 0; i < o.batch; ++i)
        draw_digit(int(i % 10), random.seed(), uint64_t(i), bytes[i].data_ptr<uint8_t>());
    return {to_signed(bytes), random.normal(bytes.sizes()).to(torch::kFloat32),
            training_levels(random.seed(), 0, o.batch, schedule)};
}

/// Of each example, by Vincent 2011: lambda |s - d/dx log q(x_t | x_0)|^2 / D, in double, for a model that says s =
/// -eps / sigma.
torch::Tensor dsm_loss(const Batch& batch, const torch::Tensor& model_eps,
                       const std::function<double(const NoiseLevel&)>& lambda) {
    std::vector<torch::Tensor> losses;
    for (int64_t i = 0; i < batch.x0.size(0); ++i) {
        const NoiseLevel& level = batch.levels[size_t(i)];
        const auto x0 = batch.x0[i].to(torch::kFloat64);
        const auto x = level.alpha * x0 + level.sigma * batch.eps[i].to(torch::kFloat64);
        const auto kernel = -(x - level.alpha * x0) / (level.sigma * level.sigma);
        const auto s = -model_eps[i].to(torch::kFloat64) / level.sigma;
        losses.push_back(lambda(level) * (s - kernel).square().mean());
    }
    return torch::stack(losses);
}

void check_same_number(Findings& f, const DdpmDsmOptions& o, Draws& random) {
    const Schedule schedule = make_schedule({.kind = "cosine"});
    const auto parameterization = make_parameterization({.prediction = "eps", .input_skip = "none"});
    const Batch batch = some_batch(o, schedule, random);
    torch::Tensor said;  // by a model that knows nothing, of x and of the time
    const Network model = [&](const NetworkInput& input) {
        return said = (2 * input.x).tanh() + 1e-3f * input.time.view({-1, 1, 1, 1});
    };
    struct Row {
        std::string weighting;
        std::function<double(const NoiseLevel&)> lambda;
        std::string source;
    };
    const std::vector<Row> rows = {
        {"simple", [](const NoiseLevel& l) { return l.sigma * l.sigma; }, "lambda = sigma²"},
        {"v", [](const NoiseLevel& l) { return std::pow(l.ratio(), 2); }, "lambda = sigma² / alpha²"},
        {"flow", [](const NoiseLevel& l) { return std::pow(l.sigma * (1 + l.ratio()), 2); },
         "lambda = sigma² (1 + sigma/alpha)²"}};
    for (const auto& row : rows) {
        const auto ddpm = ddpm_loss(parameterization, schedule, row.weighting)(model, batch).to(torch::kFloat64);
        const auto dsm = dsm_loss(batch, said, row.lambda);
        f.check(fmt::format("weighted DSM over the DDPM loss, weighting {}", row.weighting),
                (dsm.sum() / ddpm.sum()).item<double>(), 1, 1e-5, row.source + " (Vincent 2011); float32");
    }
}

constexpr double kStd = 0.5;  // of the Gaussian data

double variance_at(const NoiseLevel& level) { return std::pow(level.alpha * kStd, 2) + level.sigma * level.sigma; }

/// On the same draws, what denoising and explicit score matching say of a model differs by what no model changes.
void check_constant(Findings& f, const DdpmDsmOptions& o, Draws& random) {
    const NoiseLevel level = make_schedule({.kind = "cosine"}).at(400);
    const double v = variance_at(level);
    for (const double share : {1.0, 0.5}) {
        const auto x0 = kStd * random.normal({o.draws}), eps = random.normal({o.draws});
        const auto x = level.alpha * x0 + level.sigma * eps, s = -share * x / v;
        const auto difference = (s + eps / level.sigma).square() - (s + x / v).square();
        f.check_mean(fmt::format("DSM less explicit score matching for s = {} times the score", share), difference,
                     1 / (level.sigma * level.sigma) - 1 / v, "E|d log q|² - E|d log p|² = 1/sigma² - 1/v");
    }
}

/// The eps loss of the exact denoiser: no network can be below.
torch::Tensor exact_losses(const NoiseLevel& level, int64_t draws, Draws& random) {
    const auto x0 = kStd * random.normal({draws}), eps = random.normal({draws});
    return (gaussian_denoiser(0, kStd)(level.alpha * x0 + level.sigma * eps, level).eps - eps).square();
}

double floor_at(const NoiseLevel& level) { return std::pow(level.alpha * kStd, 2) / variance_at(level); }

void check_floor(Findings& f, const DdpmDsmOptions& o, Draws& random) {
    const Schedule cosine = make_schedule({.kind = "cosine"});
    for (const double t : {100.0, 500.0, 900.0}) {
        f.check_mean(fmt::format("eps loss of the exact denoiser of N(0, 1/4) at t = {}", t),
                     exact_losses(cosine.at(t), o.draws, random), floor_at(cosine.at(t)), "alpha² s² / v");
    }
}

Exhibit floor_exhibit(Draws& random) {
    const Schedule cosine = make_schedule({.kind = "cosine"});
    const auto floor = [&](double t) { return floor_at(cosine.at(t)); };
    const auto loss = [&](double t) { return exact_losses(cosine.at(t), 5000, random).mean().item<double>(); };
    const Panel panel{"t",
                      "loss of eps",
                      {formula("alpha² s² / (alpha² s² + sigma²)", spaced(1, 1000, 200), floor),
                       measured("exact denoiser, measured", spaced(1, 991, 12), loss),
                       {"a model that says 0", {1, 1000}, {1, 1}, Mark::kDashed}}};
    return {
        "floor",
        "The loss has a floor that no network goes below, near 1 where there is little noise to tell from the data.",
        {"The least DDPM loss, data N(0, 1/4), cosine schedule", {panel}}};
}

void run_ddpm_dsm(Findings& f, DdpmDsmOptions o, Draws& random) {
    check_same_number(f, o, random);
    check_constant(f, o, random);
    check_floor(f, o, random);
    f.exhibits = {floor_exhibit(random)};
}

}  // namespace

Experiment ddpm_dsm_experiment() {
    return experiment(
        "the DDPM loss is weighted denoising score matching: the same number on the same draws",
        {"With s = -eps_model / sigma and ∇log q(x_t|x_0) = -(x_t - alpha x_0) / sigma² = -eps / sigma, the DDPM loss "
         "|eps_model - eps|² is sigma² |s - ∇log q|²: denoising score matching with lambda = sigma² (Vincent 2011).",
         "It differs from the distance to the true score by a constant that no model changes; so its floor is not 0. "
         "For data N(0, s²) the floor of the eps loss is alpha² s² / (alpha² s² + sigma²)."},
        {"src/diffusion/objective.cpp", "src/diffusion/analytic.cpp", "src/lab/ddpm_dsm.cpp"}, run_ddpm_dsm);
}

}  // namespace diffuse::lab
