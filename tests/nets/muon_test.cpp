#include "diffuse/ops/muon.hpp"

#include <set>

#include "diffuse/base/random.hpp"
#include "diffuse/train/optimizer.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

const std::vector<std::vector<int64_t>> kShapes = {{32, 288}, {96, 32}, {32, 32}, {1, 7}};  // wide, tall, square, a row

Tensor matrices(const std::vector<int64_t>& shape, uint64_t index, int64_t count = 3) {
    return normal({count, shape[0], shape[1]}, {1, Purpose::kDigit, index});
}

/// The five steps on singular values, in double.
Tensor polynomial(Tensor x) {
    for (int step = 0; step < 5; ++step) x = 3.4445 * x - 4.7750 * x.pow(3) + 2.0315 * x.pow(5);
    return x;
}

/// U p(S) V^T, in double.
Tensor exact(const Tensor& matrix) {
    const auto [u, s, vt] = torch::linalg_svd(matrix.to(torch::kFloat64), /*full_matrices=*/false);
    return (u * polynomial(s / s.norm()).unsqueeze(-2)).matmul(vt);
}

double max_difference(const Tensor& a, const Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST(Orthogonalised, IsThePolynomialOfTheSingularValues) {
    for (const auto& shape : kShapes) {
        const auto some = matrices(shape, 1), found = orthogonalised(some);
        ASSERT_EQ(found.sizes(), some.sizes());
        for (int64_t i = 0; i < some.size(0); ++i) {
            // float32 rounds the square of a matrix of norm 1 by 6e-8, and small ones grow by up to 3.4^5 = 485.
            EXPECT_LT(max_difference(found[i].to(torch::kFloat64), exact(some[i])), 1e-4) << shape[0] << shape[1];
        }
    }
}

TEST(Orthogonalised, BringsAllButTheSmallestSingularValuesNearOne) {
    for (const auto& shape : kShapes) {
        const auto some = matrices(shape, 2).to(torch::kFloat64);
        const auto share = torch::linalg_svdvals(some[0]) / some[0].norm();
        const auto after = torch::linalg_svdvals(orthogonalised(some)[0]);
        for (int64_t i = 0; i < after.size(0); ++i) {
            if (share[i].item<double>() < 0.005) continue;         // 3.4445^5 times which is not yet 1
            EXPECT_GT(after[i].item<double>(), 0.65) << share[i];  // what the iteration is known for
            EXPECT_LT(after[i].item<double>(), 1.25) << share[i];
        }
    }
}

TEST(Orthogonalised, KnowsNoSizeAndZeroStaysZero) {
    const auto some = matrices({16, 144}, 3), expected = orthogonalised(some);
    for (const double size : {1e-12, 1e-6, 1e6, 1e12}) {
        // Division by the norm rounds, which the steps let grow, as above.
        EXPECT_LT(max_difference(orthogonalised(some * size), expected), 1e-4) << size;
    }
    auto with_zero = some.clone();
    with_zero[1].zero_();
    EXPECT_EQ(orthogonalised(with_zero)[1].abs().max().item<float>(), 0);
    EXPECT_TRUE(torch::equal(orthogonalised(with_zero)[2], expected[2]));
}

TEST(Muon, TakesTheStepsThatItsEquationsSayInDouble) {
    Parameters weights;
    for (const auto& shape : {kShapes[0], kShapes[0], kShapes[1]}) {
        weights.push_back(matrices(shape, 10 + weights.size(), 1)[0]);
    }
    std::vector<Tensor> exact_weights, exact_momentum, exact_ema;
    for (const auto& weight : weights) {
        exact_weights.push_back(weight.to(torch::kFloat64));
        exact_momentum.push_back(torch::zeros_like(exact_weights.back()));
        exact_ema.push_back(exact_weights.back());
    }
    const auto flat = flatten_parameters(weights), ema = flat.clone();
    const double mu = 0.9, decay = 0.1, factor = 0.5;
    Muon muon(weights, flat, ema, mu, decay);
    for (uint64_t step = 1; step <= 4; ++step) {
        const auto gradient = normal({flat.numel()}, {2, Purpose::kDigit, step}) * std::pow(3.0, double(step));
        const auto gradients = views_of(gradient, weights);
        const double rate = 0.01 * double(step), keep = 0.5;
        muon.step(gradient, factor, rate, keep);
        for (size_t i = 0; i < weights.size(); ++i) {
            const auto g = factor * gradients[i].to(torch::kFloat64);
            exact_momentum[i] = mu * exact_momentum[i] + (1 - mu) * g;
            const auto direction = exact(mu * exact_momentum[i] + (1 - mu) * g);
            const double rows = double(g.size(0)), columns = double(g.size(1));
            exact_weights[i] =
                (1 - rate * decay) * exact_weights[i] - rate * std::sqrt(std::max(1.0, rows / columns)) * direction;
            exact_ema[i] = keep * exact_ema[i] + (1 - keep) * exact_weights[i];
        }
    }
    for (size_t i = 0; i < weights.size(); ++i) {
        // Rates sum to 0.1: that times the error of a direction; and float32's rounding of numbers up to 4.
        EXPECT_LT(max_difference(views_of(flat, weights)[i], exact_weights[i]), 1e-5) << i;
        EXPECT_LT(max_difference(views_of(ema, weights)[i], exact_ema[i]), 1e-5) << i;
        EXPECT_LT(max_difference(views_of(muon.momentum, weights)[i], exact_momentum[i]), 1e-5) << i;
    }
}

TEST(Muon, TakesTheSameStepsOnAnyNumberOfThreads) {
    const Parameters shapes(11, torch::zeros({16, 16, 3, 3}));
    const auto after = [&](int64_t threads) {
        const auto weights = normal({11 * 16 * 144}, {1, Purpose::kDigit, 4});
        Workers workers(threads);
        Muon muon(shapes, weights, weights.clone(), /*mu=*/0.95, /*weight_decay=*/0);
        muon.step(normal(weights.sizes(), {1, Purpose::kDigit, 5}), /*factor=*/1, /*learning_rate=*/0.01,
                  /*ema_decay=*/0.9, [&](int64_t count, const auto& work) { workers.for_each(count, work); });
        return weights;
    };
    EXPECT_TRUE(torch::equal(after(1), after(3)));
}

TEST(Muon, TakesTheConvolutionsBetweenFeatureMapsAndAdamWTheRest) {
    const Net network = make_unet({.base_channels = 16, .channel_multipliers = {1, 2}, .attention_resolutions = {14}},
                                  {}, 1, torch::kCPU);
    const auto groups = weight_groups(network, "muon");
    std::set<std::string> names;
    for (const auto& [name, weight] : groups.muon) names.insert(name);
    for (const char* name : {"down0_0.conv1.weight", "down1_0.shortcut.weight", "downsample0.weight",
                             "upsample1.weight", "middle0_attention.qkv.weight"}) {
        EXPECT_TRUE(names.contains(name)) << name;
    }
    for (const char* name : {"stem.weight", "head.weight", "time1.weight", "down0_0.film.weight", "down0_0.conv1.bias",
                             "down0_0.norm1.weight"}) {
        EXPECT_FALSE(names.contains(name)) << name;
    }
    EXPECT_EQ(groups.all().size(), network.parameters().size());
    const auto plain = weight_groups(network, "adamw");
    EXPECT_TRUE(plain.muon.empty());
    const auto parameters = network.parameters();
    for (size_t i = 0; i < parameters.size(); ++i) EXPECT_TRUE(plain.adamw[i].second.is_same(parameters[i]));
}

TEST(Muon, TrainsItsPartOfTheVectorAndAdamWTheOther) {
    const Net network = make_unet({.base_channels = 8, .channel_multipliers = {1}}, {}, 1, torch::kCPU);
    const auto groups = weight_groups(network, "muon");
    const auto weights = flatten_parameters(groups.parameters()), before = weights.clone();
    Optimizer optimizer(groups, {}, weights, weights.clone());
    optimizer.step(torch::ones_like(weights), /*factor=*/1, /*adamw_rate=*/1e-3, /*muon_rate=*/0, /*ema_decay=*/0);
    const int64_t first = optimizer.adamw.mean.numel(), rest = optimizer.muon.momentum.numel();
    EXPECT_EQ(first + rest, weights.numel());
    // AdamW's first step is the learning rate in every number.
    EXPECT_NEAR((before - weights).narrow(0, 0, first).min().item<double>(), 1e-3, 1e-6);
    EXPECT_TRUE(torch::equal(weights.narrow(0, first, rest), before.narrow(0, first, rest)));
}

}  // namespace
}  // namespace diffuse
