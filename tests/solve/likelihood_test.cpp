#include "diffuse/solve/likelihood.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "diffuse/base/random.hpp"
#include "diffuse/data/dataset.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

// Independent normal pixels, of which the denoiser, the density and the entropy are known.
const GaussianData kPixels{.mean = 0.1, .std = 0.25};
const Schedule kThousand = make_schedule({.kind = "linear", .steps = 1000});
const std::vector<int64_t> kShape = {1, 4, 4};

torch::Tensor drawn_pixels(int64_t count, int64_t draw) {
    return normal_images(3, Purpose::kSamplingNoise, 0, count, kShape, draw).to(torch::kFloat64);
}

/// From r = 0.001, where the data is almost as it was, to the schedule's end, at equal distances in log r.
Grid upwards(int64_t steps) {
    const double first = std::log(1e-3), last = std::log(kThousand.at(1000).ratio());
    Grid grid;
    for (int64_t i = 0; i <= steps; ++i) {
        grid.push_back(level_of_ratio(std::exp(first + (last - first) * double(i) / double(steps))));
    }
    return grid;
}

/// log of the density of noisy data at a level, summed over pixels.
torch::Tensor exact_log_density(const torch::Tensor& x, const NoiseLevel& level) {
    const double variance = kPixels.variance(level);
    return (-0.5 * (x - level.alpha * kPixels.mean).square() / variance -
            0.5 * std::log(2 * std::numbers::pi * variance))
        .flatten(1)
        .sum(1);
}

TEST(Likelihood, OfGaussianDataIsTheExactOne) {
    const auto x = kPixels.mean + kPixels.std * drawn_pixels(64, 0);
    const Grid grid = upwards(400);
    const auto measured = ode_log_density(kPixels.denoiser(), grid, x, /*probes=*/0, Draws{});
    // Heun's error in 400 steps, and what is left of the data in the last level: 0.0003 nats a pixel when written.
    EXPECT_LT((measured - exact_log_density(x, grid.front())).abs().max().item<double>() / 16, 1e-3);
}

TEST(Likelihood, OfGaussianDataIsMinusItsEntropyOnAverage) {
    const int64_t count = 2000;
    const auto x = kPixels.mean + kPixels.std * drawn_pixels(count, 1);
    const auto nats = -ode_log_density(kPixels.denoiser(), upwards(200), x, 1, Draws{}) / 16;
    const double entropy = 0.5 * std::log(2 * std::numbers::pi * std::numbers::e * std::pow(kPixels.std, 2));
    const double standard_error = nats.std().item<double>() / std::sqrt(double(count));
    EXPECT_NEAR(nats.mean().item<double>(), entropy, 4 * standard_error + 1e-3);
}

TEST(Likelihood, OfNoisyGaussianDataIsTheExactOneOnEveryPath) {
    // What is left is Heun's error in 400 steps, and what is left of the data where grids begin: 0.005 in log p where
    // the ratio there is least, scaled-linear's 15.
    for (const std::string kind : {"vp", "sub-vp", "ve", "edm", "flow", "cosine-vp", "linear", "cosine"}) {
        const Schedule schedule = make_schedule({.kind = kind});
        for (const std::optional<double> tolerance : {std::optional<double>(), std::optional(1e-6)}) {
            const Grid grid = normalised(likelihood_grid(schedule, tolerance ? 1 : 400));
            const NoiseLevel& first = grid.front();
            const auto x = first.alpha * kPixels.mean + std::sqrt(kPixels.variance(first)) * drawn_pixels(16, 0);
            const auto measured = ode_log_density(kPixels.denoiser(), grid, x, /*probes=*/0, Draws{}, tolerance);
            EXPECT_LT((measured - exact_log_density(x, first)).abs().max().item<double>() / 16, 5e-3)
                << kind << (tolerance ? " by dopri5" : " by heun");
        }
    }
}

TEST(Likelihood, HutchinsonsEstimateIsTheTraceOnAverage) {
    // A denoiser whose Jacobian is no multiple of the identity: pixels pull at their neighbours.
    const Denoiser mixing = [](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto eps = kPixels.denoiser()(x, level).eps + 0.1 * x.roll(1, -1) + 0.05 * torch::tanh(x);
        return {(x - level.sigma * eps) / level.alpha, eps};
    };
    const auto x = kPixels.mean + kPixels.std * drawn_pixels(200, 2);
    const auto exact = ode_log_density(mixing, upwards(20), x, 0, Draws{});
    const auto estimated = ode_log_density(mixing, upwards(20), x, 20, Draws{});
    const auto difference = estimated - exact;
    const double standard_error = difference.std().item<double>() / std::sqrt(200.0);
    EXPECT_GT(standard_error, 0);
    EXPECT_NEAR(difference.mean().item<double>(), 0, 4 * standard_error);
}

/// Of a byte, in bits: its bin's probability under the data's normal distribution.
double entropy_of_bytes(const GaussianData& data) {
    double entropy = 0;
    for (int byte = 0; byte < 256; ++byte) {
        const auto below = [&](double edge) {
            return 0.5 * std::erfc((data.mean - edge) / (data.std * std::sqrt(2.0)));
        };
        const double upper = byte == 255 ? 1 : below((byte + 0.5) / 127.5 - 1);
        const double lower = byte == 0 ? 0 : below((byte - 0.5) / 127.5 - 1);
        if (upper > lower) entropy -= (upper - lower) * std::log2(upper - lower);
    }
    return entropy;
}

/// The terms of the bound in bits per dimension for bytes of this data, in closed form but for one integral.
struct ExactBound {
    double prior = 0, diffusion = 0, decoder = 0;
};

ExactBound exact_bound(const GaussianData& data, const Grid& chain) {
    const double s2 = data.std * data.std, bit = std::numbers::ln2;
    ExactBound bound;
    const NoiseLevel& start = chain.front();
    const double signal = start.alpha * start.alpha * (data.mean * data.mean + s2), noise2 = start.sigma * start.sigma;
    bound.prior = 0.5 * (signal + noise2 - 1 - std::log(noise2)) / bit;
    for (size_t i = 0; i + 2 < chain.size(); ++i) {
        const NoiseLevel &from = chain[i], &to = chain[i + 1];
        const double error = from.alpha * from.alpha * s2 / data.variance(from);  // E |eps - E[eps | x]|^2
        bound.diffusion += (std::exp(to.log_snr() - from.log_snr()) - 1) / 2 * error / bit;
    }
    // The byte lies around the predicted x0 with the standard deviation of x0 given x_1; the decoder's is its bound.
    const NoiseLevel one = chain[chain.size() - 2];
    const double decoder = one.sigma / one.alpha;
    const double spread = data.std * one.sigma / std::sqrt(data.variance(one));
    for (double z = -6 + 0.005; z < 6; z += 0.01) {
        const auto below = [&](double at) { return 0.5 * std::erfc(-at / (decoder * std::sqrt(2.0))); };
        const double at = spread * z, half = 0.5 / 127.5;
        const double weight = 0.01 * std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi);
        bound.decoder -= weight * std::log2(below(at + half) - below(at - half));
    }
    return bound;
}

const std::vector<std::string> kEveryPath = {
    "linear", "scaled-linear", "cosine", "sigmoid", "polynomial", "vp", "sub-vp", "ve", "edm", "flow", "cosine-vp"};

void expect_closed_form(const Schedule& schedule, const GaussianData& data, const std::string& where) {
    const int64_t count = 50;
    const Grid chain = normalised(make_grid(schedule, "uniform", grid_start(schedule)));
    const auto bytes = to_bytes((data.mean + data.std * drawn_pixels(count, 3)).to(torch::kFloat32));
    const auto measured = variational_bound(data.denoiser(), chain, bytes, {});
    const ExactBound exact = exact_bound(data, chain);
    const auto expect_near = [&](const torch::Tensor& bits, double expected, const char* term) {
        const double standard_error = bits.std().item<double>() / std::sqrt(double(count));
        // And what rounding to bytes adds to the data's variance.
        // Bits of 1e-9 are less than the closed form's own rounding.
        EXPECT_NEAR(bits.mean().item<double>(), expected, 4 * standard_error + 0.01 * expected + 1e-9)
            << term << " on " << where << ", standard deviation " << data.std;
    };
    expect_near(measured.prior, exact.prior, "prior");
    expect_near(measured.diffusion, exact.diffusion, "diffusion");
    expect_near(measured.decoder, exact.decoder, "decoder");
}

TEST(Likelihood, TheVariationalBoundOfGaussianBytesHasTheTermsOfItsClosedForm) {
    for (const auto& kind : kEveryPath) {
        for (const int64_t steps : {100, 1000}) {
            for (const double std : {0.25, 0.02}) {
                expect_closed_form(make_schedule({.kind = kind, .steps = steps}), {.mean = 0.1, .std = std},
                                   fmt::format("{} in {} levels", kind, steps));
            }
        }
    }
}

TEST(Likelihood, TheVariationalBoundIsNearTheEntropyWhereLevelsAreCloseAndTheFirstIsLow) {
    // By the closed form alone. ve and edm begin at 0.01 and 0.002, beside bytes 1 / 127.5 wide.
    const GaussianData data{.mean = 0.1, .std = 0.25};
    const auto above = [&](const ScheduleOptions& options) {
        const Schedule schedule = make_schedule(options);
        const auto [prior, diffusion, decoder] =
            exact_bound(data, normalised(make_grid(schedule, "uniform", grid_start(schedule))));
        return prior + diffusion + decoder - entropy_of_bytes(data);
    };
    EXPECT_LT(above({.kind = "ve"}), 0.1);
    EXPECT_LT(above({.kind = "ve", .steps = 4000}), 0.05);
    for (const auto& kind : kEveryPath) EXPECT_GT(above({.kind = kind}), 0) << kind;
}

TEST(Likelihood, TheBoundsOfGaussianBytesAreAboveTheirEntropy) {
    const int64_t count = 200;
    for (const double std : {0.25, 0.02}) {
        const GaussianData data{.mean = 0.1, .std = std};
        const auto bytes = to_bytes((data.mean + data.std * drawn_pixels(count, 3)).to(torch::kFloat32));
        const double entropy = entropy_of_bytes(data);
        const Grid chain = make_grid(kThousand, "uniform", 1000), grid = likelihood_grid(kThousand, 200);
        const auto bits = variational_bound(data.denoiser(), chain, bytes, {}).total();
        const double mean = bits.mean().item<double>();
        const double standard_error = bits.std().item<double>() / std::sqrt(double(count));
        EXPECT_GT(mean, entropy - 3 * standard_error) << std;
        const double from_first = ode_bound(data.denoiser(), chain, grid, bytes, 1, {}).mean().item<double>();
        EXPECT_GT(from_first, entropy - 3 * standard_error) << std;
        EXPECT_LT(from_first, mean + 3 * standard_error) << std;
        const auto log_density = ode_log_density(data.denoiser(), upwards(200), dequantised(bytes, {}), 1, {});
        const double ode = bits_per_dim(log_density, 16).mean().item<double>();
        EXPECT_NEAR(ode, entropy, 4 * standard_error + 0.05) << std;
        EXPECT_GT(mean, ode - 3 * standard_error) << std;
    }
}

TEST(Likelihood, WorksInAnyNumberOfLevels) {
    const auto bytes = to_bytes((kPixels.mean + kPixels.std * drawn_pixels(4, 3)).to(torch::kFloat32));
    for (const auto& kind : kEveryPath) {
        for (const int64_t levels : {1, 2, 3, 20, 4000}) {
            const bool is_path = std::ranges::find(kStepSchedules, kind) == kStepSchedules.end();
            if (is_path && levels < 20) continue;  // may have no level but pure noise
            const Schedule schedule = make_schedule({.kind = kind, .steps = levels});
            const Grid chain = normalised(make_grid(schedule, "uniform", grid_start(schedule)));
            const Grid grid = normalised(likelihood_grid(schedule, 20));
            const auto bound = variational_bound(kPixels.denoiser(), chain, bytes, {}).total();
            const auto ode = ode_bound(kPixels.denoiser(), chain, grid, bytes, 1, {});
            EXPECT_TRUE(bound.isfinite().all().item<bool>()) << kind << " " << levels;
            EXPECT_TRUE(ode.isfinite().all().item<bool>()) << kind << " " << levels;
        }
    }
}

TEST(Likelihood, OfAnImageDoesNotDependOnTheOthers) {
    const auto bytes = to_bytes((kPixels.mean + kPixels.std * drawn_pixels(6, 3)).to(torch::kFloat32));
    const Grid chain = make_grid(kThousand, "uniform", 20), grid = likelihood_grid(kThousand, 5);
    const auto all_of = [&](const torch::Tensor& some, const Draws& draws) {
        const auto density = ode_log_density(kPixels.denoiser(), grid, dequantised(some, draws), 1, draws);
        return torch::stack({density, ode_bound(kPixels.denoiser(), chain, grid, some, 1, draws),
                             variational_bound(kPixels.denoiser(), chain, some, draws).total()});
    };
    const auto all = all_of(bytes, {.seed = 3});
    EXPECT_TRUE(torch::equal(all_of(bytes.narrow(0, 2, 3), {.seed = 3, .first = 2}), all.narrow(1, 2, 3)));
    EXPECT_FALSE(torch::equal(all_of(bytes.narrow(0, 2, 3), {.seed = 5}), all.narrow(1, 2, 3)));
}

TEST(Likelihood, DequantisedBytesFillTheirBinsEvenly) {
    const auto bytes = torch::full({1000, 1, 4, 4}, 128, torch::kUInt8);
    const auto within = (dequantised(bytes, {.seed = 5}) + 1) * 127.5 - 128;
    EXPECT_GE(within.min().item<double>(), -0.5);
    EXPECT_LE(within.max().item<double>(), 0.5);
    EXPECT_NEAR(within.mean().item<double>(), 0, 5 * std::sqrt(1.0 / 12 / 16000));
    EXPECT_NEAR(within.var().item<double>(), 1.0 / 12, 0.01);
}

}  // namespace
}  // namespace diffuse
