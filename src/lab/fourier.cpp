#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "diffuse/data/codec.hpp"
#include "diffuse/data/digits.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/diffusion/schedule.hpp"
#include "lab/experiments.hpp"

/// An image in the modes of heat with closed ends (DCT-II): blurred, and drowned in noise.
namespace diffuse::lab {
namespace {

using std::numbers::pi;
constexpr int64_t kBins = 8;

struct FourierOptions {
    std::string input;
    int64_t digit = 3, draws = 200;
};

Fields fields(FourierOptions& o) {
    return {{"input", &o.input, "PNG file of the image; empty: a digit that is drawn"},
            {"digit", Number<int64_t>{&o.digit, 0, 9}, "digit that is drawn"},
            {"draws", Number<int64_t>{&o.draws, 50, 2000}, "draws of noise"}};
}

/// float64 [H, W] in [-1, 1]
torch::Tensor shown_image(const FourierOptions& o) {
    torch::Tensor bytes;
    if (o.input.empty()) {
        bytes = torch::empty({1, kDigitSize, kDigitSize}, torch::kUInt8);
        draw_digit(int(o.digit), /*seed=*/0, /*index=*/0, bytes.data_ptr<uint8_t>());
    } else {
        bytes = read_png(o.input);
        const bool has_alpha = bytes.size(0) % 2 == 0;
        bytes = bytes.narrow(0, 0, bytes.size(0) - (has_alpha ? 1 : 0));
        if (std::min(bytes.size(1), bytes.size(2)) < 8 || std::max(bytes.size(1), bytes.size(2)) > 512) {
            throw Error(
                fmt::format("{}: {}x{} pixels; expected 8 to 512 a side", o.input, bytes.size(2), bytes.size(1)));
        }
    }
    return to_signed(bytes).to(torch::kFloat64).mean(0);
}

/// The modes as rows: cos(pi k (j + 1/2) / n), of length 1.
torch::Tensor dct_matrix(int64_t n) {
    const auto j = torch::arange(n, torch::kFloat64) + 0.5, k = torch::arange(n, torch::kFloat64).unsqueeze(1);
    auto matrix = std::sqrt(2.0 / double(n)) * (pi / double(n) * k * j).cos();
    matrix[0] /= std::sqrt(2.0);
    return matrix;
}

torch::Tensor modes_of(const torch::Tensor& x) {
    return dct_matrix(x.size(-2)).matmul(x).matmul(dct_matrix(x.size(-1)).t());
}

torch::Tensor from_modes(const torch::Tensor& modes) {
    return dct_matrix(modes.size(-2)).t().matmul(modes).matmul(dct_matrix(modes.size(-1)));
}

/// f(pi i / n) of each dimension's mode number, added: [H, W]
torch::Tensor added(const torch::Tensor& x, const std::function<torch::Tensor(const torch::Tensor&)>& f) {
    const auto of = [&](int64_t n) { return f(torch::arange(n, torch::kFloat64) * (pi / double(n))); };
    return of(x.size(0)).unsqueeze(1) + of(x.size(1));
}

torch::Tensor squared_frequency(const torch::Tensor& x) {
    return added(x, [](const torch::Tensor& k) { return k.square(); });
}

/// Heat for a time t, in pixels^2: mode (i, j) decays by exp(-pi^2 (i^2 / H^2 + j^2 / W^2) t).
torch::Tensor blurred(const torch::Tensor& x, double t) {
    return from_modes(modes_of(x) * (-squared_frequency(x) * t).exp());
}

/// A step of explicit Euler; nothing flows through the ends.
torch::Tensor insulated_step(const torch::Tensor& x, double r) {
    const auto flow_y = x.diff(1, 0), flow_x = x.diff(1, 1);
    using torch::constant_pad_nd;
    return x + r * (constant_pad_nd(flow_y, {0, 0, 0, 1}) - constant_pad_nd(flow_y, {0, 0, 1, 0}) +
                    constant_pad_nd(flow_x, {0, 1}) - constant_pad_nd(flow_x, {1, 0}));
}

/// Which of kBins rings of equal width each mode belongs to; the corners beyond the last one to it.
torch::Tensor ring_of(const torch::Tensor& x) {
    return (squared_frequency(x).sqrt() * (kBins / pi)).floor().clamp_max(kBins - 1).to(torch::kInt64);
}

/// The mean power of the modes of each ring. x: [..., H, W] -> [..., kBins]
torch::Tensor ring_power(const torch::Tensor& x) {
    const auto rings = torch::one_hot(ring_of(x.flatten(0, -3).select(0, 0)).flatten(), kBins).to(torch::kFloat64);
    return modes_of(x).square().flatten(-2).matmul(rings / rings.sum(0));
}

void check_heat(Findings& f, const torch::Tensor& x) {
    constexpr int64_t kSteps = 50;
    constexpr double kRatio = 0.2;
    auto later = x;
    for (int64_t i = 0; i < kSteps; ++i) later = insulated_step(later, kRatio);
    const auto factor = 1 - 4 * kRatio * added(x, [](const torch::Tensor& k) { return (k / 2).sin().square(); });
    f.check("largest error of a mode after 50 steps of explicit Euler",
            largest(modes_of(later) - modes_of(x) * factor.pow(kSteps)), 0, 1e-11,
            "(1 - 4 r (sin²(pi i/2H) + sin²(pi j/2W)))^n; rounding");
    f.check("mean brightness after it", later.mean().item<double>(), x.mean().item<double>(), 1e-12,
            "nothing flows out");
    f.check("power of the modes over that of the pixels",
            (modes_of(x).square().sum() / x.square().sum()).item<double>(), 1, 1e-12, "Parseval");
    f.check("blurring for 1 and then for 3 against for 4", largest(blurred(blurred(x, 1), 3) - blurred(x, 4)), 0, 1e-12,
            "heat is a semigroup; rounding");
}

/// x_t of a schedule's level: [draws, H, W]
torch::Tensor drowned(const torch::Tensor& x, const NoiseLevel& level, int64_t draws, Draws& random) {
    return level.alpha * x + level.sigma * random.normal({draws, x.size(0), x.size(1)});
}

/// The power of many draws, [draws, kBins], a few at a time, as they may be large.
torch::Tensor drowned_power(const torch::Tensor& x, const NoiseLevel& level, int64_t draws, Draws& random) {
    std::vector<torch::Tensor> parts;
    for (int64_t done = 0; done < draws; done += 50) {
        parts.push_back(ring_power(drowned(x, level, std::min<int64_t>(50, draws - done), random)));
    }
    return torch::cat(parts);
}

torch::Tensor expected_power(const torch::Tensor& x, const NoiseLevel& level) {
    return level.alpha * level.alpha * ring_power(x.unsqueeze(0))[0] + level.sigma * level.sigma;
}

void check_noise(Findings& f, const torch::Tensor& x, const FourierOptions& o, Draws& random) {
    const Schedule cosine = make_schedule({.kind = "cosine"});
    for (const double t : {300.0, 700.0}) {
        const NoiseLevel level = cosine.at(t);
        const auto power = drowned_power(x, level, o.draws, random);
        for (const int64_t ring : {int64_t(0), kBins / 2, kBins - 1}) {
            f.check_mean(fmt::format("power of ring {} of x_t, cosine schedule at t = {}", ring, t),
                         power.select(1, ring), expected_power(x, level)[ring].item<double>(), "alpha² S(k) + sigma²");
        }
    }
}

Exhibit spectra_exhibit(const torch::Tensor& x, Draws& random) {
    const Schedule cosine = make_schedule({.kind = "cosine"});
    Panel noisy{"spatial frequency, ring", "power", {}, "in noise (lines: alpha² S + sigma²)", false, /*log_y=*/true};
    Panel smooth{"spatial frequency, ring", "power", {}, "blurred by heat", false, /*log_y=*/true};
    const auto rings = spaced(0, kBins - 1, kBins);
    for (const double t : {1.0, 200.0, 500.0, 800.0}) {
        const NoiseLevel level = cosine.at(t);
        noisy.curves.push_back({fmt::format("t = {}", t), rings, numbers(expected_power(x, level)), Mark::kLine});
        noisy.curves.push_back({"", rings, numbers(ring_power(drowned(x, level, 50, random)).mean(0)), Mark::kPoints});
    }
    for (const double t : {0.0, 0.25, 1.0, 4.0}) {
        smooth.curves.push_back({fmt::format("t = {} pixels²", t), rings,
                                 numbers(ring_power(blurred(x, t).unsqueeze(0))[0].clamp_min(1e-8))});
    }
    return {"spectra",
            "Noise has the same power at every frequency, an image most of it at low ones: fine detail drowns first, "
            "as it does under heat. Sampling walks back, so it draws from coarse to fine.",
            {"What an image has at each frequency", {noisy, smooth}}};
}

Exhibit images_exhibit(const torch::Tensor& x, Draws& random) {
    const Schedule cosine = make_schedule({.kind = "cosine"});
    std::vector<torch::Tensor> blurs, noisy;
    const std::vector<double> heat = {0, 0.5, 1, 2, 4, 8, 16, 64}, times = {1, 100, 200, 350, 500, 650, 800, 991};
    for (size_t i = 0; i < heat.size(); ++i) {
        blurs.push_back(blurred(x, heat[i]));
        noisy.push_back(drowned(x, cosine.at(times[i]), 1, random)[0]);
    }
    blurs.insert(blurs.end(), noisy.begin(), noisy.end());
    return {"images",
            "Above: blurred by heat. Below: drowned in noise along the cosine schedule.",
            {},
            {to_bytes(torch::stack(blurs).unsqueeze(1).to(torch::kFloat32)), int64_t(heat.size())}};
}

void run_fourier(Findings& f, FourierOptions o, Draws& random) {
    const auto x = shown_image(o);
    check_heat(f, x);
    check_noise(f, x, o, random);
    f.exhibits = {spectra_exhibit(x, random), images_exhibit(x, random)};
}

}  // namespace

Experiment fourier_experiment() {
    return experiment(
        "an image's modes: heat damps them from fine to coarse, noise drowns them in the same order",
        {"With closed ends the modes of heat are cosines (DCT-II), and mode (i, j) of an image of H x W pixels decays "
         "as exp(-pi² (i²/H² + j²/W²) t).",
         "Noise adds sigma² to the power of every mode: E|x_t|² = alpha² S(k) + sigma². Images have S(k) of about "
         "1/k², so mode k is lost where sigma / alpha is above sqrt(S(k)), the fine ones first. This is why a "
         "diffusion model draws from coarse to fine."},
        {"src/lab/fourier.cpp", "src/diffusion/schedule.cpp"}, run_fourier);
}

}  // namespace diffuse::lab
