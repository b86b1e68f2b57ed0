#include "diffuse/diffusion/analytic.hpp"

#include "diffuse/base/random.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

const NoiseLevel kLevels[] = {{1, 0.05}, {0.8, 0.6}, {0.3, 0.9}, {0, 1}};

torch::Tensor images(int64_t count, uint64_t index, int64_t side = 6) {
    return normal({count, 1, side, side}, {1, Purpose::kLab, index});
}

double away(const Prediction& a, const Prediction& b) {
    return std::max((a.x0 - b.x0).abs().max().item<double>(), (a.eps - b.eps).abs().max().item<double>());
}

TEST(Analytic, EmpiricalIsTheMixtureOfNarrowLawsAroundTheData) {
    const auto data = normal({50, 2}, {1, Purpose::kLab, 0}).to(torch::kFloat64);
    const Mixture narrow{data, torch::full({50}, 1e-9, torch::kFloat64), torch::full({50}, 0.02, torch::kFloat64)};
    for (const auto& level : kLevels) {
        const auto x = normal({7, 2}, {2, Purpose::kLab, 0}).to(torch::kFloat64);
        EXPECT_LT(away(empirical_denoiser(data)(x, level), mixture_denoiser(narrow)(x, level)), 1e-6);
    }
}

TEST(Analytic, EmpiricalAtLittleNoiseIsTheNearestExample) {
    const auto data = images(20, 0);
    const auto x0 = empirical_denoiser(data)(data.narrow(0, 3, 2).to(torch::kFloat64), {1, 0.01}).x0;
    EXPECT_LT((x0 - data.narrow(0, 3, 2)).abs().max().item<double>(), 1e-5);
}

TEST(Analytic, FittedGaussianIsTheRoundOneOfRoundData) {
    const auto data = 0.3 + 0.5 * normal({200'000, 3}, {1, Purpose::kLab, 0}).to(torch::kFloat64);
    for (const auto& level : kLevels) {
        const auto x = normal({7, 3}, {2, Purpose::kLab, 0}).to(torch::kFloat64);
        // five standard errors of a mean and a variance of so many
        EXPECT_LT(away(fitted_gaussian_denoiser(data)(x, level), gaussian_denoiser(0.3, 0.5)(x, level)), 0.02);
    }
}

TEST(Analytic, FittedGaussianTakesFewerExamplesThanNumbers) {
    const auto data = images(5, 0), x = images(2, 9);
    for (const auto& level : {NoiseLevel{1, 0}, NoiseLevel{0.5, 0.5}}) {
        const auto [x0, eps] = fitted_gaussian_denoiser(data)(x, level);
        EXPECT_TRUE(x0.isfinite().all().item<bool>() && eps.isfinite().all().item<bool>());
    }
}

TEST(Analytic, LocalWithPatchesOfWholeImagesIsEmpirical) {
    const auto data = images(30, 0), x = images(3, 9);
    const auto whole = [](const NoiseLevel&) { return int64_t{11}; };  // the border cuts each
    for (const auto& level : {kLevels[0], kLevels[1], kLevels[2]}) {
        EXPECT_LT(away(local_denoiser(data, 2, whole)(x, level), empirical_denoiser(data)(x, level)), 1e-3);
    }
}

/// The definition, pixel by pixel.
double local_pixel(const torch::Tensor& x, const torch::Tensor& data, const NoiseLevel& level, int64_t reach,
                   int64_t side, int64_t row, int64_t column) {
    const int64_t size = x.size(2), half = side / 2;
    const auto cut = [&](int64_t at) { return std::pair(std::min(at, half), std::min(size - 1 - at, half)); };
    double weight = 0, sum = 0;
    for (int64_t n = 0; n < data.size(0); ++n) {
        for (int64_t r = row - reach; r <= row + reach; ++r) {
            for (int64_t c = column - reach; c <= column + reach; ++c) {
                if (r < 0 || c < 0 || r >= size || c >= size || cut(r) != cut(row) || cut(c) != cut(column)) continue;
                const auto [up, down] = cut(row);
                const auto [left, right] = cut(column);
                const auto patch = [&](const torch::Tensor& all, int64_t y, int64_t z) {
                    return all.slice(0, y - up, y + down + 1).slice(1, z - left, z + right + 1).to(torch::kFloat64);
                };
                const double square =
                    (patch(x[0][0], row, column) - level.alpha * patch(data[n][0], r, c)).square().sum().item<double>();
                const double share = std::exp(-square / (2 * level.sigma * level.sigma));
                weight += share, sum += share * data[n][0][r][c].item<double>();
            }
        }
    }
    return sum / weight;
}

TEST(Analytic, LocalIsItsDefinition) {
    const auto data = images(4, 0, 7), x = images(1, 9, 7);
    const NoiseLevel level{0.8, 0.6};
    for (const int64_t side : {1, 3, 5}) {
        const auto x0 = local_denoiser(data, 2, [=](const NoiseLevel&) { return side; })(x, level).x0;
        for (int64_t row = 0; row < 7; ++row) {
            for (int64_t column = 0; column < 7; ++column) {
                EXPECT_NEAR(x0[0][0][row][column].item<double>(), local_pixel(x, data, level, 2, side, row, column),
                            1e-4)
                    << side << " at " << row << ", " << column;
            }
        }
    }
}

}  // namespace
}  // namespace diffuse
