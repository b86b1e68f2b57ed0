#include "diffuse/base/random.hpp"
#include "diffuse/diffusion/objective.hpp"
#include "diffuse/train/batch.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

const Schedule kVe = make_schedule({.kind = "ve"});

/// Points of N(mean, std^2 I) in the plane at one level, with directions.
Batch batch_at(double ratio, int64_t count, double mean, double std) {
    const NoiseLevel level = normalised(kVe.at(kVe.time_at(-2 * std::log(ratio))));
    const auto draw = [&](uint64_t index) { return normal({count, 2}, {1, Purpose::kLab, index}); };
    return {mean + std * draw(0),
            draw(1),
            std::vector<NoiseLevel>(size_t(count), level),
            {},
            training_directions(/*seed=*/1, 0, count, /*projections=*/2, {2})};
}

/// A network that says what makes eps_hat = c (x - m) of any parameterization.
Network linear_eps(const Parameterization& meaning, const NoiseLevel& level, double c, double m) {
    const auto [of_x, of_output] = meaning.eps_factors(level);
    return [=](const NetworkInput& input) { return (c * (input.x - m) - of_x * input.x) / of_output; };
}

double mean_of(const torch::Tensor& losses) { return losses.mean().item<double>(); }

TEST(ScoreMatching, EpsIsOfTheFactorsThatPredictHas) {
    for (const auto& prediction : prediction_names()) {
        for (const std::string skip : {"none", "plain", "scaled"}) {
            const auto meaning = make_parameterization({.prediction = prediction, .input_skip = skip});
            const NoiseLevel level = normalised({0.7, 0.4});
            const auto x = torch::tensor({1.5}, torch::kFloat64), output = torch::tensor({-0.3}, torch::kFloat64);
            const auto [of_x, of_output] = meaning.eps_factors(level);
            EXPECT_NEAR(meaning.predict(output, x, level).eps.item<double>(), of_x * 1.5 - of_output * 0.3, 1e-14)
                << prediction << " " << skip;
        }
    }
}

TEST(ScoreMatching, DsmIsTheDdpmLoss) {
    const auto meaning = make_parameterization({});
    const Batch batch = batch_at(0.5, 100, 0.3, 0.8);
    for (const std::string weighting : {"simple", "v"}) {
        const Network network = linear_eps(meaning, batch.levels[0], 0.4, 0.1);
        const auto a = make_objective("ddpm", meaning, kVe, weighting)(network, batch);
        const auto b = make_objective("dsm", meaning, kVe, weighting)(network, batch);
        EXPECT_LT((a - b).abs().max().item<double>(), 1e-5 * a.max().item<double>()) << weighting;  // float32
    }
}

TEST(ScoreMatching, OfALinearScoreIsItsClosedForm) {
    // eps_hat = c (x - m): per number E eps_hat^2 = c^2 (v + (mu - m)^2), and the divergence of the score is -c /
    // sigma.
    const double c = 0.6, m = 0.2, mean = 0.5, std = 0.7;
    const int64_t count = 100'000;
    for (const double ratio : {0.1, 1.0, 5.0}) {
        const Batch batch = batch_at(ratio, count, mean, std);
        const NoiseLevel level = batch.levels[0];
        const double variance = std::pow(level.alpha * std, 2) + level.sigma * level.sigma;
        const double square = c * c * (variance + std::pow(level.alpha * mean - m, 2));
        const double expected = square - 2 * level.sigma * c;
        for (const std::string name : {"ism", "ssm", "ssm-vr", "dsm"}) {
            const auto meaning = make_parameterization({.prediction = "v"});
            const auto losses = make_objective(name, meaning, kVe)(linear_eps(meaning, level, c, m), batch);
            const double error = 5 * losses.std().item<double>() / std::sqrt(double(count)) + 1e-5;
            EXPECT_NEAR(mean_of(losses), expected + (name == "dsm" ? 1 : 0), error) << name << " at " << ratio;
        }
    }
}

TEST(ScoreMatching, EndsAtMinusTheSquareOfTheScore) {
    // At the exact score of N(mu, v I), sigma^2 E|s|^2 / D = sigma^2 / v.
    const double std = 0.7, ratio = 0.8;
    const Batch batch = batch_at(ratio, 100'000, 0, std);
    const NoiseLevel level = batch.levels[0];
    const double variance = std::pow(level.alpha * std, 2) + level.sigma * level.sigma;
    const double best = level.sigma * level.sigma / variance;
    const auto meaning = make_parameterization({});
    for (const std::string name : {"ism", "ssm", "ssm-vr"}) {
        const auto at = [&](double c) {
            return mean_of(make_objective(name, meaning, kVe)(linear_eps(meaning, level, c, 0), batch));
        };
        EXPECT_NEAR(at(level.sigma / variance), -best, 0.02 * best) << name;
        EXPECT_LT(at(level.sigma / variance), at(1.2 * level.sigma / variance)) << name;
        EXPECT_LT(at(level.sigma / variance), at(0.8 * level.sigma / variance)) << name;
    }
}

TEST(ScoreMatching, DirectionsAreSignsOfEachPosition) {
    const auto all = training_directions(3, 0, 100, 4, {2});
    EXPECT_TRUE(all.abs().eq(1).all().item<bool>());
    EXPECT_TRUE(torch::equal(all.narrow(0, 40, 10), training_directions(3, 40, 10, 4, {2})));
    EXPECT_NEAR(all.mean().item<double>(), 0, 5 / std::sqrt(800.0));
}

TEST(TrainingLevels, AreOneWhereOneIsAskedFor) {
    const auto levels = training_levels(0, 3, 16, kVe, {.kind = "one", .mean = std::log(0.5)});
    for (const auto& level : levels) EXPECT_NEAR(level.ratio(), 0.5, 1e-9);
}

}  // namespace
}  // namespace diffuse
