#include "diffuse/train/optimizer.hpp"

#include "diffuse/train/flat_parameters.hpp"
#include "diffuse/train/learning_rate.hpp"

#include <torch/optim/adamw.h>

#include "testing.hpp"

namespace diffuse {
namespace {

Parameters parameters() {
    torch::manual_seed(1);
    Parameters result = {torch::randn({4, 3, 3, 3}), torch::randn({4}), torch::randn({5, 2})};
    for (auto& parameter : result) parameter.requires_grad_();
    return result;
}

TEST(Flat, ParametersKeepTheirValuesAndShareOneVector) {
    Parameters mine = parameters(), before = parameters();
    auto flat = flatten_parameters(mine);
    EXPECT_EQ(flat.numel(), 4 * 27 + 4 + 10);
    for (size_t i = 0; i < mine.size(); ++i) EXPECT_TRUE(torch::equal(mine[i], before[i]));
    EXPECT_TRUE(mine[0].is_contiguous(torch::MemoryFormat::ChannelsLast));
    flat.zero_();
    for (const auto& parameter : mine) EXPECT_EQ(parameter.abs().max().item<float>(), 0);
}

TEST(Flat, BackwardAddsIntoOneVector) {
    Parameters mine = parameters();
    flatten_parameters(mine);
    auto gradient = flatten_gradients(mine);
    for (int pass = 1; pass <= 2; ++pass) {
        (mine[0].sum() + 2 * mine[1].sum() + 3 * mine[2].sum()).backward();
        EXPECT_EQ(gradient.sum().item<float>(), float(pass * (108 + 2 * 4 + 3 * 10)));
    }
}

TEST(AdamW, FollowsLibTorchsOwn) {
    Parameters mine = parameters(), theirs = parameters();
    auto weights = flatten_parameters(mine);
    auto ema = weights.clone();
    AdamW optimizer(weights, ema, /*beta2=*/0.99, /*weight_decay=*/0.1);
    torch::optim::AdamW reference(theirs, torch::optim::AdamWOptions(0.01).betas({0.9, 0.99}).weight_decay(0.1));
    auto gradient = flatten_gradients(mine);
    for (int step = 0; step < 20; ++step) {
        for (auto* set : {&mine, &theirs}) {
            for (auto& parameter : *set) {
                const auto pull = (parameter.detach() - 1).pow(3);
                set == &mine ? void(parameter.mutable_grad().copy_(pull)) : void(parameter.mutable_grad() = pull);
            }
        }
        optimizer.step(gradient, /*factor=*/1, /*learning_rate=*/0.01, /*ema_decay=*/0);
        reference.step();
    }
    for (size_t i = 0; i < mine.size(); ++i)
        EXPECT_TRUE(torch::allclose(mine[i], theirs[i], 1e-5, 1e-6)) << i;  // float32
    EXPECT_TRUE(torch::allclose(ema, weights, 1e-6, 1e-7));                 // an average that forgets everything
}

TEST(Clip, BoundsTheNorm) {
    EXPECT_EQ(clip_factor(5, 10), 1);
    EXPECT_EQ(clip_factor(5, 1), 0.2);
    EXPECT_EQ(clip_factor(5, 0), 1);
}

TEST(Ema, ForgetsTheStartEarlyAndIsSlowLater) {
    EXPECT_DOUBLE_EQ(ema_decay(0.999, 1), 2.0 / 11);
    EXPECT_EQ(ema_decay(0.999, 1'000'000), 0.999);
    // What is left of the weights that a run began with: 10! (n + 1)! / (n + 10)!.
    double left = 1;
    for (int64_t n = 1; n <= 100; ++n) {
        left *= ema_decay(0.9999, n);
        const double exact = std::exp(std::lgamma(11.0) + std::lgamma(double(n + 2)) - std::lgamma(double(n + 11)));
        EXPECT_NEAR(left, exact, 1e-10 * exact) << n;  // rounding of lgamma
        if (n == 10) {
            EXPECT_NEAR(left, 5.95e-5, 1e-7);
        }
    }
}

TEST(LearningRate, RisesThenFallsAsAsked) {
    TrainOptions config{.steps = 110, .warmup_steps = 10};
    const auto rate = [&](int64_t step) { return make_learning_rate(config, 0.5)(step); };
    EXPECT_DOUBLE_EQ(rate(1), 0.05);
    EXPECT_DOUBLE_EQ(rate(10), 0.5);
    EXPECT_DOUBLE_EQ(rate(11), 0.5);
    EXPECT_NEAR(rate(61), 0.25, 1e-12);
    EXPECT_GT(rate(110), 0);
    EXPECT_LT(rate(110), 0.001);
    config.decay = "linear";
    EXPECT_NEAR(rate(36), 0.375, 1e-12);
    config.decay = "none";
    EXPECT_EQ(rate(110), 0.5);
}

}  // namespace
}  // namespace diffuse
