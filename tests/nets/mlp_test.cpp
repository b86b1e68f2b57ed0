#include "diffuse/nets/mlp.hpp"

#include <torch/csrc/autograd/autograd.h>

#include "diffuse/base/random.hpp"
#include "diffuse/nets/net.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

Net random_mlp(const ConditionSizes& condition = {}, const ExampleShape& shape = ExampleShape::of_points(2)) {
    NetOptions options{.kind = "mlp", .unet = {}, .mlp = {.width = 16, .blocks = 2}, .classes = {}};
    const Net net = make_net(options, shape, condition, /*seed=*/1, torch::kCPU);
    const torch::NoGradGuard no_grad;
    torch::manual_seed(1);
    for (auto& weight : net.parameters()) weight.add_(0.2 * torch::randn_like(weight));
    return net;
}

torch::Tensor inputs(int64_t count = 5) { return normal({count, 2}, {1, Purpose::kLab, 0}); }

TEST(Mlp, StartsByPredictingZeroAndKnowsItsMatrices) {
    NetOptions options{.kind = "mlp", .unet = {}, .mlp = {.width = 16, .blocks = 2}, .classes = {}};
    const Net net = make_net(options, ExampleShape::of_points(2), {}, 1, torch::kCPU);
    EXPECT_EQ(net({inputs(), torch::tensor({7.0f})}).abs().max().item<float>(), 0);
    int64_t matrices = 0;
    for (const auto& [name, weight] : net.named_parameters()) {
        if (!net.is_matrix(name, weight)) continue;
        EXPECT_EQ(weight.sizes(), (torch::IntArrayRef{16, 16})) << name;
        ++matrices;
    }
    EXPECT_EQ(matrices, 4);  // two of each block
}

TEST(Mlp, TreatsEachExampleAloneAndAnyShapeAsNumbers) {
    const Net net = random_mlp();
    const auto x = inputs(), t = torch::tensor({1.0f, 20.0f, 300.0f, 500.0f, 999.0f});
    const auto all = net({x, t});
    EXPECT_LT((net({x.narrow(0, 2, 1), t.narrow(0, 2, 1)})[0] - all[2]).abs().max().item<float>(), 1e-5);
    EXPECT_GT((net({x, torch::tensor({1.0f})}) - all).narrow(0, 1, 4).abs().max().item<float>(), 1e-3);
    const Net of_images = random_mlp({}, {1, 2, 3});
    EXPECT_EQ(of_images({torch::randn({4, 1, 2, 3}), t.narrow(0, 0, 1)}).sizes(), (torch::IntArrayRef{4, 1, 2, 3}));
}

TEST(Mlp, ListensToLabelsAndToNumbers) {
    const auto x = inputs(), t = torch::tensor({5.0f});
    const Net labelled = random_mlp({.classes = 3});
    const auto none = labelled({x, t}), same = labelled({x, t, {.classes = torch::full({5}, 3, torch::kInt64)}});
    EXPECT_LT((none - same).abs().max().item<float>(), 1e-6);  // one row for all is another kernel
    EXPECT_GT((none - labelled({x, t, {.classes = torch::zeros({5}, torch::kInt64)}})).abs().max().item<float>(), 1e-3);
    const Net told = random_mlp({.numbers = 4});
    const auto y = torch::zeros({5, 4});
    EXPECT_GT((told({x, t, {.numbers = y}}) - told({x, t, {.numbers = y + 1}})).abs().max().item<float>(), 1e-3);
}

TEST(Mlp, HasSecondDerivativesThatAreRight) {
    // d/dw of the divergence by autograd against differences of it, in float64 by hand: a weight of the first block.
    const Net net = random_mlp();
    const auto divergence = [&] {
        auto x = inputs().requires_grad_(true);
        const auto y = net({x, torch::tensor({50.0f})});
        auto sum = torch::zeros({});
        for (int64_t i = 0; i < 2; ++i) {
            sum = sum + torch::autograd::grad({y.select(1, i).sum()}, {x}, {}, true, true)[0].select(1, i).sum();
        }
        return sum;
    };
    auto named = net.named_parameters();
    const auto found = std::ranges::find_if(named, [](const auto& one) { return one.first == "block0.first.weight"; });
    ASSERT_NE(found, named.end());
    auto weight = found->second;
    const auto slope = torch::autograd::grad({divergence()}, {weight})[0][3][2].item<double>();
    const auto moved = [&](double by) {
        const torch::NoGradGuard no_grad;
        weight[3][2] += by;
    };
    constexpr double kStep = 1e-2;  // of float32, a third of whose digits are left
    moved(kStep);
    const double above = divergence().item<double>();
    moved(-2 * kStep);
    const double below = divergence().item<double>();
    moved(kStep);
    EXPECT_NEAR(slope, (above - below) / (2 * kStep), 2e-3 * std::max(1.0, std::abs(slope)));
}

}  // namespace
}  // namespace diffuse
