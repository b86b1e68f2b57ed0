#include "diffuse/likelihood.hpp"

#include <cmath>
#include <numbers>

#include "diffuse/dataset.hpp"
#include "diffuse/random.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

// Independent normal pixels, of which the denoiser, the density and the entropy are known.
const GaussianData kData{.mean = 0.1, .deviation = 0.25};
const Schedule kSchedule = make_schedule({.kind = "linear", .steps = 1000});
const std::vector<int64_t> kShape = {1, 4, 4};

torch::Tensor noise(int64_t count, int64_t draw) {
    return normal_images(3, Purpose::kSamplingNoise, 0, count, kShape, draw).to(torch::kFloat64);
}

/// From r = 0.001, where the data is almost as it was, to the schedule's end, at equal distances in log r.
Grid upwards(int64_t steps) {
    const double first = std::log(1e-3), last = std::log(kSchedule.at(1000).ratio());
    Grid grid;
    for (int64_t i = 0; i <= steps; ++i) {
        grid.push_back(level_of_ratio(std::exp(first + (last - first) * double(i) / double(steps))));
    }
    return grid;
}

/// log of the density of noisy data at a level, summed over pixels.
torch::Tensor exact_log_density(const torch::Tensor& x, const NoiseLevel& level) {
    const double variance = kData.variance(level);
    return (-0.5 * (x - level.alpha * kData.mean).square() / variance - 0.5 * std::log(2 * std::numbers::pi * variance))
        .flatten(1)
        .sum(1);
}

TEST(Likelihood, OfGaussianDataIsTheExactOne) {
    const auto x = kData.mean + kData.deviation * noise(64, 0);
    const Grid grid = upwards(400);
    const auto measured = ode_log_density(kData.denoiser(), grid, x, /*probes=*/0, 0);
    // Heun's error in 400 steps, and what is left of the data in the last level: 0.0003 nats a pixel when written.
    EXPECT_LT((measured - exact_log_density(x, grid.front())).abs().max().item<double>() / 16, 1e-3);
}

TEST(Likelihood, OfGaussianDataIsMinusItsEntropyOnAverage) {
    const int64_t count = 2000;
    const auto x = kData.mean + kData.deviation * noise(count, 1);
    const auto nats = -ode_log_density(kData.denoiser(), upwards(200), x, 1, 0) / 16;
    const double entropy = 0.5 * std::log(2 * std::numbers::pi * std::numbers::e * std::pow(kData.deviation, 2));
    const double standard_error = nats.std().item<double>() / std::sqrt(double(count));
    EXPECT_NEAR(nats.mean().item<double>(), entropy, 4 * standard_error + 1e-3);
}

TEST(Likelihood, HutchinsonsEstimateIsTheTraceOnAverage) {
    // A denoiser whose Jacobian is no multiple of the identity: pixels pull at their neighbours.
    const Denoiser mixing = [](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
        const auto eps = kData.denoiser()(x, level).eps + 0.1 * x.roll(1, -1) + 0.05 * torch::tanh(x);
        return {(x - level.sigma * eps) / level.alpha, eps};
    };
    const auto x = kData.mean + kData.deviation * noise(200, 2);
    const auto exact = ode_log_density(mixing, upwards(20), x, 0, 0);
    const auto estimated = ode_log_density(mixing, upwards(20), x, 20, 0);
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
            return 0.5 * std::erfc((data.mean - edge) / (data.deviation * std::sqrt(2.0)));
        };
        const double upper = byte == 255 ? 1 : below((byte + 0.5) / 127.5 - 1);
        const double lower = byte == 0 ? 0 : below((byte - 0.5) / 127.5 - 1);
        if (upper > lower) entropy -= (upper - lower) * std::log2(upper - lower);
    }
    return entropy;
}

TEST(Likelihood, TheVariationalBoundOfGaussianBytesIsAboveTheirEntropy) {
    // Above it by what the posterior's variance, right for data without spread, costs data with some: measured 0.79
    // bits for a deviation of 0.25, and 0.25 for one of 0.02, which is near the noise of the first levels.
    const int64_t count = 200;
    for (const auto& [deviation, most] : std::vector<std::pair<double, double>>{{0.25, 0.9}, {0.02, 0.35}}) {
        const GaussianData data{.mean = 0.1, .deviation = deviation};
        const auto bytes = to_bytes((data.mean + data.deviation * noise(count, 3)).to(torch::kFloat32));
        const double entropy = entropy_of_bytes(data);
        const auto bits = variational_bound(data.denoiser(), kSchedule, bytes, 0).total();
        const double mean = bits.mean().item<double>();
        const double standard_error = bits.std().item<double>() / std::sqrt(double(count));
        EXPECT_GT(mean, entropy - 3 * standard_error) << deviation;
        EXPECT_LT(mean, entropy + most) << deviation;
        auto grid = make_grid(kSchedule, "log-snr", 201);
        grid.pop_back();
        const auto from_first = ode_bound(data.denoiser(), kSchedule, reversed(grid), bytes, 1, 0);
        EXPECT_GT(from_first.mean().item<double>(), entropy - 3 * standard_error) << deviation;
        EXPECT_LT(from_first.mean().item<double>(), mean + 3 * standard_error) << deviation;
        const auto log_density = ode_log_density(data.denoiser(), upwards(200), dequantised(bytes, 0), 1, 0);
        const double ode = bits_per_dim(log_density, 16).mean().item<double>();
        EXPECT_NEAR(ode, entropy, 4 * standard_error + 0.05) << deviation;
        EXPECT_GT(mean, ode - 3 * standard_error) << deviation;
    }
}

TEST(Likelihood, DequantisedBytesFillTheirBinsEvenly) {
    const auto bytes = torch::full({1000, 1, 4, 4}, 128, torch::kUInt8);
    const auto within = (dequantised(bytes, 5) + 1) * 127.5 - 128;
    EXPECT_GE(within.min().item<double>(), -0.5);
    EXPECT_LE(within.max().item<double>(), 0.5);
    EXPECT_NEAR(within.mean().item<double>(), 0, 5 * std::sqrt(1.0 / 12 / 16000));
    EXPECT_NEAR(within.var().item<double>(), 1.0 / 12, 0.01);
}

}  // namespace
}  // namespace diffuse
