#include "diffuse/loss.hpp"

#include "diffuse/random.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

const Schedule kSchedule = make_schedule({.kind = "linear", .steps = 1000});

TEST(Loss, OfTheBestDenoiserOfGaussianDataIsWhatTheMathsSays) {
    // With E[eps | x] = sigma (x - alpha m) / v the expected squared error is Var[eps | x] = alpha^2 s^2 / v.
    const GaussianData data;
    const LevelTable levels(kSchedule, torch::kCPU);
    const int64_t count = 50'000;
    for (const int64_t t : {1, 100, 400, 1000}) {
        const NoiseLevel level = kSchedule.at(double(t));
        const Network best = [&](const torch::Tensor& x, const torch::Tensor&) {
            return data.denoiser()(x, level).eps;
        };
        const auto x0 = data.mean + data.deviation * normal({count, 1, 1, 1}, {1, Purpose::kDigit, uint64_t(t)});
        const auto eps = normal({count, 1, 1, 1}, {1, Purpose::kTrainingNoise, uint64_t(t)});
        const double loss =
            eps_loss(best, to_eps("eps"), levels, x0, torch::full({count}, t, torch::kInt64), eps).item<double>();
        const double expected = std::pow(level.alpha * data.deviation, 2) / data.variance(level);
        EXPECT_NEAR(loss, expected, 5 * expected * std::sqrt(2.0 / count)) << "t " << t;  // five standard errors
    }
}

TEST(Loss, OfANetworkThatPredictsZeroIsTheMeanSquareOfTheNoise) {
    const LevelTable levels(kSchedule, torch::kCPU);
    const auto eps = normal({8, 1, 4, 4}, {2, Purpose::kTrainingNoise, 0});
    const Network zero = [](const torch::Tensor& x, const torch::Tensor&) { return torch::zeros_like(x); };
    const auto loss =
        eps_loss(zero, to_eps("eps"), levels, torch::zeros_like(eps), torch::full({8}, 5, torch::kInt64), eps);
    EXPECT_FLOAT_EQ(loss.item<float>(), eps.square().mean().item<float>());
}

TEST(Denoiser, SplitsXIntoX0AndEps) {
    const Network half = [](const torch::Tensor& x, const torch::Tensor&) { return 0.5 * x; };
    const auto x = normal({2, 1, 4, 4}, {3, Purpose::kDigit, 0}).to(torch::kFloat64);
    const NoiseLevel level = kSchedule.at(500);
    const auto [x0, eps] = network_denoiser(half, to_eps("eps"), kSchedule)(x, level);
    EXPECT_TRUE(torch::allclose(level.alpha * x0 + level.sigma * eps, x, 0, 1e-12));
}

TEST(Denoiser, IsNeverAskedBelowTheFirstTrainedLevel) {
    double asked = -1;
    const Network spy = [&](const torch::Tensor& x, const torch::Tensor& t) {
        asked = t.item<double>();
        return torch::zeros_like(x);
    };
    network_denoiser(spy, to_eps("eps"), kSchedule)(torch::zeros({1, 1, 2, 2}, torch::kFloat64), NoiseLevel{});
    EXPECT_EQ(asked, 1);
}

TEST(Denoiser, APredictedVIsTurnedIntoTheSameEpsAndX0) {
    const auto x0 = normal({2, 1, 4, 4}, {5, Purpose::kDigit, 0}).to(torch::kFloat64);
    const auto noise = normal({2, 1, 4, 4}, {5, Purpose::kTrainingNoise, 0}).to(torch::kFloat64);
    const NoiseLevel level = kSchedule.at(400);
    const Network exact = [&](const torch::Tensor&, const torch::Tensor&) {
        return level.alpha * noise - level.sigma * x0;
    };
    const auto found = network_denoiser(exact, to_eps("v"), kSchedule)(level.alpha * x0 + level.sigma * noise, level);
    EXPECT_TRUE(torch::allclose(found.eps, noise, 0, 1e-12));
    EXPECT_TRUE(torch::allclose(found.x0, x0, 0, 1e-12));
}

TEST(Denoiser, ClippingBoundsX0AndKeepsX) {
    const auto x = 3 * normal({2, 1, 4, 4}, {4, Purpose::kDigit, 0}).to(torch::kFloat64);
    const NoiseLevel level = kSchedule.at(300);
    const auto [x0, eps] = clip_x0(GaussianData{}.denoiser())(x, level);
    EXPECT_LE(x0.abs().max().item<double>(), 1);
    EXPECT_TRUE(torch::allclose(level.alpha * x0 + level.sigma * eps, x, 0, 1e-12));
}

TEST(Weighting, HasMeanOneAndThePublishedRatios) {
    const int64_t T = 1000;
    for (const std::string weighting : {"min-snr", "vlb"}) {
        const LevelTable table(kSchedule, torch::kCPU, weighting);
        EXPECT_NEAR(table.weight.narrow(0, 1, T).mean().item<double>(), 1, 1e-5) << weighting;  // float32
    }
    EXPECT_FALSE(LevelTable(kSchedule, torch::kCPU).weight.defined());
    const auto snr = [](int64_t t) { return std::exp(kSchedule.at(double(t)).log_snr()); };
    const LevelTable min_snr(kSchedule, torch::kCPU, "min-snr"), vlb(kSchedule, torch::kCPU, "vlb");
    const auto at = [](const LevelTable& table, int64_t t) { return table.weight[t].item<double>(); };
    EXPECT_GT(snr(10), 5);
    EXPECT_LT(snr(900), 5);
    EXPECT_NEAR(at(min_snr, 10) / at(min_snr, 900), 5 / snr(10), 1e-5);
    EXPECT_NEAR(at(vlb, 10) / at(vlb, 900), (snr(9) / snr(10) - 1) / (snr(899) / snr(900) - 1), 1e-4);
}

TEST(Prediction, EachSaysTheSameOfTheSameImageAndNoise) {
    const NoiseLevel level = kSchedule.at(300);
    const auto x0 = torch::randn({2, 1, 3, 3}, torch::kFloat64), eps = torch::randn_like(x0);
    const auto x = level.alpha * x0 + level.sigma * eps;
    const std::map<std::string, torch::Tensor> outputs = {
        {"eps", eps}, {"x0", x0}, {"v", level.alpha * eps - level.sigma * x0}};
    for (const auto& name : prediction_names()) {
        const Network network = [&](const torch::Tensor&, const torch::Tensor&) { return outputs.at(name); };
        const auto prediction = network_denoiser(network, to_eps(name), kSchedule)(x, level);
        EXPECT_TRUE(torch::allclose(prediction.eps, eps, 1e-10, 1e-10)) << name;
        EXPECT_TRUE(torch::allclose(prediction.x0, x0, 1e-10, 1e-10)) << name;
    }
}

}  // namespace
}  // namespace diffuse
