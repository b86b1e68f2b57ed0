#include "diffuse/diffusion/objective.hpp"

#include <numeric>

#include "diffuse/base/random.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

const Schedule kLinear = make_schedule({.kind = "linear", .steps = 1000});
const Parameterization kEps = make_parameterization({.input_skip = "none"});

/// A batch whose examples all are at level t.
Batch at_level(double t, const torch::Tensor& x0, const torch::Tensor& eps, const Schedule& schedule = kLinear) {
    return {x0, eps, std::vector<NoiseLevel>(size_t(x0.size(0)), schedule.at(t))};
}

TEST(Loss, OfTheBestDenoiserOfGaussianDataIsWhatTheMathsSays) {
    // With E[eps | x] = sigma (x - alpha m) / v the expected squared error is Var[eps | x] = alpha^2 s^2 / v.
    const GaussianData data;
    const Objective loss = ddpm_loss(kEps, kLinear);
    const int64_t count = 50'000;
    for (const int64_t t : {1, 100, 400, 1000}) {
        const NoiseLevel level = kLinear.at(double(t));
        const Network best = [&](const NetworkInput& input) { return data.denoiser()(input.x, level).eps; };
        const auto x0 = data.mean + data.std * normal({count, 1, 1, 1}, {1, Purpose::kDigit, uint64_t(t)});
        const auto eps = normal({count, 1, 1, 1}, {1, Purpose::kTrainingNoise, uint64_t(t)});
        const double expected = std::pow(level.alpha * data.std, 2) / data.variance(level);
        EXPECT_NEAR(loss(best, at_level(double(t), x0, eps)).mean().item<double>(), expected,
                    5 * expected * std::sqrt(2.0 / count))
            << "t " << t;  // five standard errors
    }
}

TEST(Loss, OfANetworkThatPredictsZeroIsTheMeanSquareOfTheNoise) {
    const auto eps = normal({8, 1, 4, 4}, {2, Purpose::kTrainingNoise, 0});
    const Network zero = [](const NetworkInput& input) { return torch::zeros_like(input.x); };
    const auto loss = ddpm_loss(kEps, kLinear)(zero, at_level(5, torch::zeros_like(eps), eps));
    EXPECT_EQ(loss.sizes(), torch::IntArrayRef({8}));  // a number for each example
    EXPECT_FLOAT_EQ(loss.mean().item<float>(), eps.square().mean().item<float>());
}

TEST(Loss, ShowsTheNetworkImagesOfTheMeanAndVarianceOfTheirLevel) {
    const int64_t count = 20'000;
    for (const int64_t t : {1, 300, 1000}) {
        const auto eps = normal({count, 1, 2, 2}, {1, Purpose::kTrainingNoise, uint64_t(t)});
        const NoiseLevel level = kLinear.at(double(t));
        const double standard_error = level.sigma / std::sqrt(4.0 * count);
        const Network spy = [&](const NetworkInput& input) {
            const auto& x = input.x;
            EXPECT_TRUE(input.time.eq(t).all().item<bool>());
            EXPECT_NEAR(x.mean().item<double>(), 0.7 * level.alpha, 5 * standard_error + 1e-6);  // float32's rounding
            EXPECT_NEAR(x.std().item<double>(), level.sigma, 5 * standard_error);
            return x;
        };
        ddpm_loss(kEps, kLinear)(spy, at_level(double(t), torch::full({count, 1, 2, 2}, 0.7f), eps));
    }
}

TEST(Denoiser, SplitsXIntoX0AndEps) {
    const Network half = [](const NetworkInput& input) { return 0.5 * input.x; };
    const auto x = normal({2, 1, 4, 4}, {3, Purpose::kDigit, 0}).to(torch::kFloat64);
    const NoiseLevel level = kLinear.at(500);
    const auto [x0, eps] = network_denoiser(half, kEps, kLinear)(x, level);
    EXPECT_TRUE(torch::allclose(level.alpha * x0 + level.sigma * eps, x, 0, 1e-12));
}

TEST(Denoiser, IsNeverAskedBelowTheFirstTrainedLevel) {
    double asked = -1;
    const Network spy = [&](const NetworkInput& input) {
        asked = input.time.item<double>();
        return torch::zeros_like(input.x);
    };
    network_denoiser(spy, kEps, kLinear)(torch::zeros({1, 1, 2, 2}, torch::kFloat64), NoiseLevel{});
    EXPECT_EQ(asked, 1);
}

TEST(Denoiser, APredictedVIsTurnedIntoTheSameEpsAndX0) {
    const auto x0 = normal({2, 1, 4, 4}, {5, Purpose::kDigit, 0}).to(torch::kFloat64);
    const auto noise = normal({2, 1, 4, 4}, {5, Purpose::kTrainingNoise, 0}).to(torch::kFloat64);
    const NoiseLevel level = kLinear.at(400);
    const Network exact = [&](const NetworkInput&) { return level.alpha * noise - level.sigma * x0; };
    const auto found = network_denoiser(exact, make_parameterization({.prediction = "v"}), kLinear)(
        level.alpha * x0 + level.sigma * noise, level);
    EXPECT_TRUE(torch::allclose(found.eps, noise, 0, 1e-12));
    EXPECT_TRUE(torch::allclose(found.x0, x0, 0, 1e-12));
}

TEST(Denoiser, AndLossPassTheConditionOn) {
    const auto labels = torch::tensor({3, 1}, torch::kInt64), x = torch::zeros({2, 1, 2, 2});
    int calls = 0;
    const Network spy = [&](const NetworkInput& input) {
        EXPECT_TRUE(torch::equal(input.condition.classes, labels));
        ++calls;
        return input.x;
    };
    network_denoiser(spy, kEps, kLinear, {.classes = labels})(x, kLinear.at(500));
    Batch batch = at_level(500, x, x);
    batch.condition.classes = labels;
    ddpm_loss(kEps, kLinear)(spy, batch);
    EXPECT_EQ(calls, 2);
}

TEST(Denoiser, ClippingBoundsX0AndKeepsX) {
    const auto x = 3 * normal({2, 1, 4, 4}, {4, Purpose::kDigit, 0}).to(torch::kFloat64);
    const NoiseLevel level = kLinear.at(300);
    const auto [x0, eps] = clip_x0(GaussianData{}.denoiser())(x, level);
    EXPECT_LE(x0.abs().max().item<double>(), 1);
    EXPECT_TRUE(torch::allclose(level.alpha * x0 + level.sigma * eps, x, 0, 1e-12));
}

TEST(Denoiser, ANewNetworkWithTheInputSkipSaysThatEpsIsX) {
    const Network zero = [](const NetworkInput& input) { return torch::zeros_like(input.x); };
    const auto x = normal({2, 1, 4, 4}, {3, Purpose::kDigit, 0});
    const auto eps_of = [&](const ParameterizationOptions& options) {
        return network_denoiser(zero, make_parameterization(options), kLinear)(x, kLinear.at(1000)).eps;
    };
    EXPECT_TRUE(torch::equal(eps_of({}), x));
    EXPECT_TRUE(torch::equal(eps_of({.input_skip = "plain"}), x));
    EXPECT_EQ(eps_of({.input_skip = "none"}).abs().max().item<float>(), 0);
    EXPECT_FALSE(torch::equal(eps_of({.prediction = "v"}), x));  // for eps alone
}

TEST(Weighting, HasMeanOneAndThePublishedRatios) {
    const auto min_snr = output_weight(kEps, kLinear, "min-snr"), vlb = output_weight(kEps, kLinear, "vlb");
    for (const auto& weight : {min_snr, vlb}) {
        double sum = 0;
        for (int t = 1; t <= 1000; ++t) sum += weight(t);
        EXPECT_NEAR(sum, 1000, 1e-9);  // rounding
    }
    const auto snr = [](int64_t t) { return std::exp(kLinear.at(double(t)).log_snr()); };
    EXPECT_GT(snr(10), 5);
    EXPECT_LT(snr(900), 5);
    EXPECT_NEAR(min_snr(10) / min_snr(900), 5 / snr(10), 1e-12);
    EXPECT_NEAR(vlb(10) / vlb(900), (snr(9) / snr(10) - 1) / (snr(899) / snr(900) - 1), 1e-9);
}

TEST(Weighting, NoLevelHasMostOfTheVariationalBound) {
    // At the last level of the cosine schedule, where beta is clipped, (SNR(t-1) / SNR(t) - 1) / 2 is 500: 97% of all.
    for (const auto& kind : schedule_names()) {
        const auto weight = output_weight(kEps, make_schedule({.kind = kind}), "vlb");
        // Of a sum of 1000: at most 100, at t = 2 of polynomial, whose SNR falls like t^-2 there.
        for (int t = 1; t <= 1000; ++t) EXPECT_LT(weight(t), 150) << kind << " at " << t;
    }
}

TEST(Weighting, BetweenWholeTimesIsThatOfTheLevelItself) {
    const Schedule ve =
        make_schedule({.kind = "ve", .steps = 10});  // a level has 2.3 times the ratio of the one before
    for (const double t : {1.5, 4.25, 9.9}) {
        const double r = ve.at(t).ratio();
        EXPECT_NEAR(output_weight(kEps, ve, "v")(t), 1 + r * r, 1e-12 * (1 + r * r));
        EXPECT_NEAR(output_weight(kEps, ve, "flow")(t), (1 + r) * (1 + r), 1e-12 * (1 + r) * (1 + r));
    }
}

TEST(Weighting, HasABoundWhereAPathEndsInPureNoiseWhateverTheObjective) {
    const auto x0 = normal({4, 2}, {6, Purpose::kDigit, 0}), eps = normal({4, 2}, {6, Purpose::kTrainingNoise, 0});
    const Network network = [](const NetworkInput& input) { return torch::tanh(input.x); };
    const Parameterization meaning = make_parameterization({.input_skip = "scaled"});
    for (const std::string kind : {"flow", "cosine-vp"}) {
        const Schedule schedule = make_schedule({.kind = kind, .steps = 100});
        Batch batch{x0, eps, {}, {}, torch::ones({4, 1, 2})};
        for (const double t : {1.0, 50.0, 99.0, 100.0}) batch.levels.push_back(normalised(schedule.at(t)));
        for (const auto& objective : objective_names()) {
            for (const auto& weighting : weighting_names()) {
                const auto losses = make_objective(objective, meaning, schedule, weighting)(network, batch);
                EXPECT_TRUE(losses.isfinite().all().item<bool>()) << objective << ", " << weighting << ", " << kind;
            }
        }
    }
}

TEST(Weighting, IsThatOfEpsWhateverTheNetworkPredicts) {
    const auto x0 = normal({4, 1, 3, 3}, {6, Purpose::kDigit, 0});
    const auto eps = normal({4, 1, 3, 3}, {6, Purpose::kTrainingNoise, 0});
    for (const auto& weighting : weighting_names()) {
        for (const auto& kind : {"linear", "cosine"}) {
            const Schedule schedule = make_schedule({.kind = kind});
            Batch batch{x0, eps, {}};
            for (const double t : {3, 200, 600, 990}) batch.levels.push_back(schedule.at(t));
            double eps_loss = 0;
            for (const auto& name : prediction_names()) {
                const Parameterization meaning = make_parameterization({name, /*input_skip=*/"none"});
                // A network whose eps is wrong by a tenth at every pixel, however it says so.
                const Network network = [&](const NetworkInput&) {
                    const auto column = [&](double NoiseLevel::*member) {
                        std::vector<double> values;
                        for (const auto& level : batch.levels) values.push_back(level.*member);
                        return torch::tensor(values, torch::kFloat64).view({-1, 1, 1, 1});
                    };
                    const auto alpha = column(&NoiseLevel::alpha), sigma = column(&NoiseLevel::sigma);
                    const auto x = alpha * x0 + sigma * eps, wrong = eps + 0.1;
                    return meaning.target((x - sigma * wrong) / alpha, wrong, alpha, sigma);
                };
                const double loss = ddpm_loss(meaning, schedule, weighting)(network, batch).mean().item<double>();
                if (name == "eps") eps_loss = loss;
                EXPECT_NEAR(loss, eps_loss, 1e-4 * eps_loss) << weighting << " " << kind << " " << name;  // float32
            }
        }
    }
}

/// The mean size of the loss's gradient over the output of a network that predicts zero, at level t.
double gradient_at(const Schedule& schedule, const std::string& prediction, const std::string& weighting, int64_t t) {
    const auto x0 = normal({8, 1, 4, 4}, {7, Purpose::kDigit, 0}), eps = normal({8, 1, 4, 4}, {8, Purpose::kDigit, 0});
    const auto output = torch::zeros_like(x0).requires_grad_(true);
    const Network network = [&](const NetworkInput&) { return output; };
    const Objective loss = ddpm_loss(make_parameterization({.prediction = prediction}), schedule, weighting);
    loss(network, at_level(double(t), x0, eps, schedule)).mean().backward();
    return output.grad().abs().mean().item<double>();
}

TEST(Weighting, OfVTeachesInPureNoiseToo) {
    const Schedule pure = make_schedule({.kind = "cosine", .zero_terminal_snr = true});
    for (const auto& prediction : {"v", "x0", "eps"}) {  // eps with the scaled skip
        // By the error of eps there is nothing to learn at t = T (alpha is 5e-5).
        EXPECT_LT(gradient_at(pure, prediction, "simple", 1000), 1e-7 * gradient_at(pure, prediction, "simple", 500));
        EXPECT_GT(gradient_at(pure, prediction, "v", 1000), 0.1 * gradient_at(pure, prediction, "v", 500));
    }
}

TEST(Prediction, OfVAndX0HasAnAnswerWhereNothingOfTheImageIsLeft) {
    const auto x = torch::randn({2, 3}, torch::kFloat64), output = torch::randn_like(x);
    const NoiseLevel noise{.alpha = 0, .sigma = 1};
    const auto by_v = make_parameterization({.prediction = "v"}).predict(output, x, noise);
    EXPECT_TRUE(torch::equal(by_v.x0, -output) && torch::equal(by_v.eps, x));
    const auto by_x0 = make_parameterization({.prediction = "x0"}).predict(output, x, noise);
    EXPECT_TRUE(torch::equal(by_x0.x0, output) && torch::equal(by_x0.eps, x));
    const auto by_eps = make_parameterization({.input_skip = "scaled"}).predict(output, x, noise);
    EXPECT_TRUE(torch::equal(by_eps.x0, -output) && torch::equal(by_eps.eps, x));
    EXPECT_ANY_THROW(make_parameterization({.input_skip = "none"}).predict(output, x, noise));
}

TEST(Prediction, OfEpsIsTheSameWhateverTheInputSkip) {
    const NoiseLevel level = level_of_ratio(3);
    const auto x0 = torch::randn({2, 3}, torch::kFloat64), eps = torch::randn_like(x0);
    const auto x = level.alpha * x0 + level.sigma * eps;
    const auto alpha = torch::tensor(level.alpha, torch::kFloat64), sigma = torch::tensor(level.sigma, torch::kFloat64);
    for (const std::string skip : {"none", "plain", "scaled"}) {
        const Parameterization meaning = make_parameterization({.input_skip = skip});
        const auto output = meaning.target(x0, eps, alpha, sigma);
        const auto right = meaning.predict(output, x, level);
        EXPECT_TRUE(torch::allclose(right.x0, x0, 0, 1e-12) && torch::allclose(right.eps, eps, 0, 1e-12)) << skip;
        // A wrong output gives an x0 and an eps that still make x, and an error of eps of the size that is promised.
        const auto wrong = meaning.predict(output + 0.1, x, level);
        EXPECT_TRUE(torch::allclose(level.alpha * wrong.x0 + level.sigma * wrong.eps, x, 0, 1e-12)) << skip;
        EXPECT_NEAR((wrong.eps - eps).mean().item<double>(), 0.1 * meaning.eps_factors(level).of_output, 1e-12) << skip;
    }
}

TEST(Prediction, OfEpsWithTheScaledSkipIsAsLargeAsTheImageAtEveryLevel) {
    // Of data of unit variance the output has the variance 1 + (alpha / (1 + sigma))^2, from 2 at data to 1 at noise.
    const auto x0 = normal({100'000}, {1, Purpose::kDigit, 0}), eps = normal({100'000}, {2, Purpose::kDigit, 0});
    for (const double ratio : {1e-3, 1.0, 1e3}) {
        const NoiseLevel level = level_of_ratio(ratio);
        const auto alpha = torch::tensor(level.alpha), sigma = torch::tensor(level.sigma);
        const double variance =
            make_parameterization({}).target(x0, eps, alpha, sigma).to(torch::kFloat64).var().item<double>();
        const double expected = 1 + std::pow(level.alpha / (1 + level.sigma), 2);
        EXPECT_NEAR(variance, expected, 5 * expected * std::sqrt(2.0 / 100'000)) << ratio;  // five standard errors
    }
}

TEST(Prediction, EachSaysTheSameOfTheSameImageAndNoise) {
    const NoiseLevel level = kLinear.at(300);
    const auto x0 = torch::randn({2, 1, 3, 3}, torch::kFloat64), eps = torch::randn_like(x0);
    const auto x = level.alpha * x0 + level.sigma * eps;
    const std::map<std::string, torch::Tensor> outputs = {{"eps", eps},
                                                          {"x0", x0},
                                                          {"v", level.alpha * eps - level.sigma * x0},
                                                          {"flow", eps - x0},
                                                          {"edm", level.sigma * x0 - level.alpha * eps}};
    for (const auto& name : prediction_names()) {
        const Network network = [&](const NetworkInput&) { return outputs.at(name); };
        const auto prediction =
            network_denoiser(network, make_parameterization({name, /*input_skip=*/"none"}), kLinear)(x, level);
        EXPECT_TRUE(torch::allclose(prediction.eps, eps, 1e-10, 1e-10)) << name;
        EXPECT_TRUE(torch::allclose(prediction.x0, x0, 1e-10, 1e-10)) << name;
    }
}

}  // namespace
}  // namespace diffuse
