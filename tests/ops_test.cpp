#include "diffuse/ops.hpp"

#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include "testing.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

/// What a convolution is made of, in double, where LibTorch's operators and their gradients are the truth.
struct Case {
    std::string name;
    ConvInput input;
    Tensor weight, bias, residual;

    std::vector<Tensor> tensors() const {
        std::vector<Tensor> all;
        for (const auto& tensor : {input.x, input.skip, input.scale, input.shift, weight, bias, residual}) {
            if (tensor.defined()) all.push_back(tensor);
        }
        return all;
    }
    Case as_float() const {
        const auto leaf = [](const Tensor& x) {
            if (!x.defined()) return x;
            auto copy = x.detach().to(torch::kFloat32);
            if (copy.dim() == 4) copy = copy.contiguous(torch::MemoryFormat::ChannelsLast);
            return copy.requires_grad_(x.requires_grad());
        };
        return {name,
                {leaf(input.x), leaf(input.skip), input.groups, leaf(input.scale), leaf(input.shift), input.upsample},
                leaf(weight),
                leaf(bias),
                leaf(residual)};
    }
};

Tensor random(torch::IntArrayRef sizes, double scale = 1) {
    return (scale * torch::randn(sizes, torch::kFloat64)).requires_grad_(true);
}

/// Sizes that do and do not fill tiles, panels and vectors, with every way of reading the input.
std::vector<Case> cases() {
    torch::manual_seed(0);
    std::vector<Case> all;
    for (const auto& [n, in, out, h, w] : std::vector<std::array<int64_t, 5>>{{1, 1, 1, 4, 4},
                                                                              {2, 1, 24, 28, 28},
                                                                              {3, 24, 1, 28, 28},
                                                                              {13, 8, 8, 7, 7},
                                                                              {4, 40, 24, 14, 14},
                                                                              {2, 16, 56, 5, 9},
                                                                              {1, 3, 5, 1, 1},
                                                                              {2, 64, 32, 8, 6}}) {
        const auto base = [&](const std::string& kind) {
            Case c{fmt::format("{} {}x{}x{}x{} -> {}", kind, n, in, h, w, out),
                   {},
                   random({out, in, 3, 3}, 0.2),
                   random({out}),
                   {}};
            c.input.x = random({n, in, h, w});
            return c;
        };
        all.push_back(base("plain"));
        if (in == 40) {  // two maps as they are, the second one a multiple of 8 channels or not
            for (const int64_t more : {8, 4}) {
                all.push_back(base(fmt::format("in two maps, {} and {}", in - more, more)));
                auto& split = all.back().input;
                split.skip = split.x.narrow(1, in - more, more).detach().clone().requires_grad_(true);
                split.x = split.x.narrow(1, 0, in - more).detach().clone().requires_grad_(true);
            }
        }
        all.push_back(base("residual"));
        all.back().residual = random({n, out, h, w});
        if (h % 2 == 0 && w % 2 == 0) {
            all.push_back(base("upsampled"));
            all.back().input.x = random({n, in, h / 2, w / 2});
            all.back().input.upsample = true;
        }
        if (in % 8 != 0) continue;
        for (const int64_t rows : {int64_t{1}, n}) {
            all.push_back(base(fmt::format("normalised by {} rows of scales", rows)));
            auto& input = all.back().input;
            input.x = (1 + 2 * random({n, in, h, w})).detach().requires_grad_(true);
            input.groups = in / 8;
            input.scale = random({rows, in});
            input.shift = random({rows, in});
            if (in < 16) continue;
            all.push_back(all.back());  // the same with its last 8 channels as a second map
            all.back().name += ", in two maps";
            auto& split = all.back().input;
            split.skip = split.x.narrow(1, in - 8, 8).detach().clone().requires_grad_(true);
            split.x = split.x.narrow(1, 0, in - 8).detach().clone().requires_grad_(true);
        }
    }
    return all;
}

/// The largest difference as a share of the largest value.
double relative_error(const Tensor& measured, const Tensor& exact) {
    return ((measured.to(torch::kFloat64) - exact).abs().max() / exact.abs().max().clamp_min(1e-3)).item<double>();
}

TEST(Ops, ConvolutionsAndTheirGradientsAreThoseOfLibTorchInDouble) {
    for (const auto& exact : cases()) {
        const Case tuned = exact.as_float();
        const auto y = conv3x3_reference(exact.input, exact.weight, exact.bias, exact.residual);
        const auto ours = conv3x3(tuned.input, tuned.weight, tuned.bias, tuned.residual);
        ASSERT_EQ(ours.sizes(), y.sizes()) << exact.name;
        // Winograd's transforms multiply float32's rounding by some ten; Lavin & Gray 2016 measure 1e-5 alike.
        EXPECT_LT(relative_error(ours, y), 2e-5) << exact.name;
        const auto direction = torch::randn_like(y);
        const auto expected = torch::autograd::grad({(y * direction).sum()}, exact.tensors());
        const auto measured = torch::autograd::grad({(ours * direction.to(torch::kFloat32)).sum()}, tuned.tensors());
        for (size_t i = 0; i < expected.size(); ++i) {
            EXPECT_LT(relative_error(measured[i], expected[i]), 1e-4) << exact.name << ", gradient " << i;
        }
    }
}

TEST(Ops, PackedWeightsGiveTheSame) {
    for (const auto& c : cases()) {
        const Case tuned = c.as_float();
        const auto once = conv3x3(tuned.input, tuned.weight, tuned.bias, tuned.residual);
        const auto again = conv3x3(tuned.input, tuned.weight, tuned.bias, tuned.residual, packed_weights(tuned.weight));
        EXPECT_TRUE(torch::equal(once, again)) << c.name;
    }
}

TEST(Ops, AnImageDoesNotDependOnItsNeighbours) {
    for (const auto& c : cases()) {
        const Case tuned = c.as_float();
        auto& input = tuned.input;
        if (input.skip.defined() && input.skip.size(1) % 8 != 0)
            continue;  // LibTorch's operators promise no such thing
        const auto all = conv3x3(input, tuned.weight, tuned.bias);
        const auto one = [](const Tensor& x) {
            return x.defined() && x.size(0) > 1 ? x.narrow(0, x.size(0) - 1, 1) : x;
        };
        const ConvInput last{one(input.x),     one(input.skip),  input.groups,
                             one(input.scale), one(input.shift), input.upsample};
        EXPECT_TRUE(torch::equal(conv3x3(last, tuned.weight, tuned.bias), one(all))) << c.name;
    }
}

TEST(Ops, ConvolutionsOfOnePixelAndTheirGradientsAreThoseOfLibTorchInDouble) {
    torch::manual_seed(0);
    const auto channels_last = [](const Tensor& x) {
        return x.detach().to(torch::kFloat32).contiguous(torch::MemoryFormat::ChannelsLast).requires_grad_(true);
    };
    for (const auto& [n, in, more, out, h, w] : std::vector<std::array<int64_t, 6>>{{1, 16, 0, 16, 1, 1},
                                                                                    {2, 32, 16, 48, 7, 7},
                                                                                    {3, 48, 0, 32, 5, 9},
                                                                                    {2, 64, 32, 64, 14, 14},
                                                                                    {2, 24, 8, 24, 7, 7}}) {
        const auto name = fmt::format("{}x{}+{}x{}x{} -> {}", n, in, more, h, w, out);
        std::vector<Tensor> exact = {random({n, in, h, w}), random({out, in + more, 1, 1}, 0.2), random({out})}, tuned;
        if (more > 0) exact.push_back(random({n, more, h, w}));
        for (const auto& x : exact) {
            tuned.push_back(x.dim() == 4 ? channels_last(x) : x.detach().to(torch::kFloat32).requires_grad_(true));
        }
        const auto skip = [&](const std::vector<Tensor>& all) { return more > 0 ? all[3] : Tensor(); };
        const auto y = conv1x1_reference(exact[0], skip(exact), exact[1], exact[2]);
        const auto ours = conv1x1(tuned[0], skip(tuned), tuned[1], tuned[2]);
        ASSERT_EQ(ours.sizes(), y.sizes()) << name;
        EXPECT_LT(relative_error(ours, y), 1e-6) << name;  // some roundings of float32
        const auto direction = torch::randn_like(y);
        const auto expected = torch::autograd::grad({(y * direction).sum()}, exact);
        const auto measured = torch::autograd::grad({(ours * direction.to(torch::kFloat32)).sum()}, tuned);
        for (size_t i = 0; i < expected.size(); ++i) {
            EXPECT_LT(relative_error(measured[i], expected[i]), 3e-6) << name << ", gradient " << i;
        }
    }
}

TEST(Ops, AStepOfAdamWIsThatOfLibTorchsOperators) {
    torch::manual_seed(0);
    const AdamWStep step{.factor = 0.5,
                         .beta1 = 0.9,
                         .beta2 = 0.99,
                         .epsilon = 1e-8,
                         .shrink = 0.999,
                         .rate = 0.01,
                         .square_correction = 0.3,
                         .ema_decay = 0.9};
    for (const int64_t count : {1, 15, 16, 1000, 4099}) {
        const auto gradient = torch::randn({count});
        std::vector<Tensor> ours = {torch::randn({count}), torch::rand({count}), torch::randn({count}),
                                    torch::randn({count})},
                            theirs;
        for (const auto& x : ours) theirs.push_back(x.clone());
        for (int i = 0; i < 3; ++i) {
            adamw_(step, gradient, ours[0], ours[1], ours[2], ours[3]);
            adamw_reference_(step, gradient, theirs[0], theirs[1], theirs[2], theirs[3]);
        }
        for (size_t i = 0; i < ours.size(); ++i) {
            EXPECT_TRUE(torch::allclose(ours[i], theirs[i], 1e-6, 1e-6)) << count << " numbers, vector " << i;
        }
    }
}

}  // namespace
}  // namespace diffuse
