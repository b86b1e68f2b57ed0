#include "diffuse/ops/adamw.hpp"
#include "diffuse/ops/conv1x1.hpp"
#include "diffuse/ops/conv3x3.hpp"

#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <map>

#include "diffuse/base/device.hpp"
#include "diffuse/run/machine.hpp"
#include "ops/simd/kernels.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

/// What a convolution is made of, in double, where LibTorch's operators and their gradients are the truth.
struct Case {
    std::string name;
    ConvInput input;
    Tensor weight, bias, residual;

    std::vector<std::pair<std::string, Tensor>> tensors() const {
        std::vector<std::pair<std::string, Tensor>> all = {
            {"x", input.x},     {"skip", input.skip}, {"scale", input.scale}, {"shift", input.shift},
            {"weight", weight}, {"bias", bias},       {"residual", residual}};
        std::erase_if(all, [](const auto& row) { return !row.second.defined(); });
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

struct Size {
    int64_t images, in, out, height, width;
};

Case plain(const Size& s) {
    return {fmt::format("{}x{}x{}x{} -> {}", s.images, s.in, s.height, s.width, s.out),
            {random({s.images, s.in, s.height, s.width})},
            random({s.out, s.in, 3, 3}, 0.2),
            random({s.out}),
            {}};
}

Case upsampled(const Size& s) {
    Case c = plain(s);
    c.name += " upsampled";
    c.input.x = random({s.images, s.in, s.height / 2, s.width / 2});
    c.input.upsample = true;
    return c;
}

Case normalised(const Size& s, int64_t groups, int64_t rows) {
    Case c = plain(s);
    c.name += fmt::format(" normalised in {} groups by {} rows of scales", groups, rows);
    c.input.x = (1 + 2 * random({s.images, s.in, s.height, s.width})).detach().requires_grad_(true);
    c.input.groups = groups;
    c.input.scale = random({rows, s.in});
    c.input.shift = random({rows, s.in});
    return c;
}

/// The same with its last channels as a second map.
Case in_two_maps(Case c, int64_t last) {
    const int64_t first = c.input.x.size(1) - last;
    c.name += fmt::format(", in two maps of {} and {}", first, last);
    c.input.skip = c.input.x.narrow(1, first, last).detach().clone().requires_grad_(true);
    c.input.x = c.input.x.narrow(1, 0, first).detach().clone().requires_grad_(true);
    return c;
}

Case with_residual(Case c, const Size& s) {
    c.name += ", with a residual";
    c.residual = random({s.images, s.out, s.height, s.width});
    return c;
}

/// Sizes that do and do not fill tiles, panels and vectors, with every way of reading the input.
std::vector<Case> cases() {
    torch::manual_seed(0);
    std::vector<Case> all;
    for (const Size& s : {Size{1, 1, 1, 4, 4},
                          {2, 1, 24, 28, 28},
                          {3, 24, 1, 28, 28},
                          {13, 8, 8, 7, 7},
                          {4, 40, 24, 14, 14},
                          {2, 16, 56, 5, 9},
                          {1, 3, 5, 1, 1},
                          {2, 64, 32, 8, 6}}) {
        all.push_back(plain(s));
        all.push_back(with_residual(plain(s), s));
        if (s.height % 2 == 0 && s.width % 2 == 0) {
            all.push_back(upsampled(s));
            all.push_back(with_residual(upsampled(s), s));
        }
        if (s.in % 8 != 0) continue;
        for (const int64_t rows : {int64_t{1}, s.images}) {
            all.push_back(normalised(s, s.in / 8, rows));
            all.push_back(with_residual(all.back(), s));
            if (s.in >= 16) all.push_back(in_two_maps(all.back(), 8));
        }
    }
    const Size mixed{4, 40, 24, 14, 14}, wide{2, 264, 16, 5, 4}, widest{2, 288, 8, 4, 6};
    all.push_back(in_two_maps(plain(mixed), 8));
    all.push_back(in_two_maps(plain(mixed), 4));  // not in multiples of 8 channels
    all.push_back(in_two_maps(upsampled(mixed), 16));
    all.push_back(in_two_maps(normalised(mixed, 2, 4), 16));  // the second group lies in both maps
    // As many groups as the network has above 256 channels (unet.cpp): 24 of 11 and 32 of 9, in no way like vectors.
    all.push_back(normalised(wide, 24, 2));
    all.push_back(in_two_maps(normalised(widest, 32, 2), 128));
    all.push_back(with_residual(all.back(), widest));
    return all;
}

/// The largest difference as a share of the largest value.
double relative_error(const Tensor& measured, const Tensor& exact) {
    return ((measured.to(torch::kFloat64) - exact).abs().max() / exact.abs().max().clamp_min(1e-3)).item<double>();
}

/// With each of the instruction sets that the kernels are compiled for and this CPU has.
class Ops : public testing::TestWithParam<std::string> {
protected:
    void SetUp() override {
        kernels::use_instruction_set(GetParam());
        ASSERT_EQ(kernels::instruction_set(), GetParam());
    }
    void TearDown() override { kernels::use_instruction_set(""); }
};

INSTANTIATE_TEST_SUITE_P(EachInstructionSet, Ops, testing::ValuesIn(kernels::instruction_sets()),
                         [](const auto& test) { return test.param; });

/// What float32 may lose, as a share of the largest value. Winograd's transforms multiply its rounding by some ten
/// (Lavin & Gray 2016 measure as much); sums over more numbers lose more. Twice to three times the most that was
/// measured with AVX-512, AVX2, SSE4 and without vectors: 6e-6 for the result, 1e-5 for x, 5e-6 for skip, 7e-6 for the
/// weight, 5e-6 for scale and shift, 2e-6 for the bias. The residual's gradient is the result's, rounded once.
double tolerance(const std::string& what) {
    static const std::map<std::string, double> tolerances = {{"y", 2e-5},      {"x", 2e-5},          {"skip", 1e-5},
                                                             {"weight", 2e-5}, {"scale", 1e-5},      {"shift", 1e-5},
                                                             {"bias", 5e-6},   {"residual", 0x1p-24}};
    return tolerances.at(what);
}

TEST_P(Ops, ConvolutionsAndTheirGradientsAreThoseOfLibTorchInDouble) {
    for (const auto& exact : cases()) {
        const Case tuned = exact.as_float();
        const auto y = conv3x3_reference(exact.input, exact.weight, exact.bias, exact.residual);
        const auto ours = conv3x3(tuned.input, tuned.weight, tuned.bias, tuned.residual);
        ASSERT_EQ(ours.sizes(), y.sizes()) << exact.name;
        EXPECT_LT(relative_error(ours, y), tolerance("y")) << exact.name;
        const auto direction = torch::randn_like(y);
        const auto gradients = [&](const Tensor& result, const Case& c) {
            std::vector<Tensor> inputs;
            for (const auto& [name, tensor] : c.tensors()) inputs.push_back(tensor);
            return torch::autograd::grad({(result * direction.to(result.scalar_type())).sum()}, inputs);
        };
        const auto expected = gradients(y, exact), measured = gradients(ours, tuned);
        for (size_t i = 0; i < expected.size(); ++i) {
            const std::string what = exact.tensors()[i].first;
            EXPECT_LE(relative_error(measured[i], expected[i]), tolerance(what)) << what << " of " << exact.name;
        }
    }
}

TEST_P(Ops, AnImageDoesNotDependOnItsNeighbours) {
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

TEST_P(Ops, ConvolutionsOfOnePixelAndTheirGradientsAreThoseOfLibTorchInDouble) {
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

TEST_P(Ops, TheMachineIsDescribedByTheInstructionSetToo) {
    expect_contains(describe(torch::kCPU), "diffuse " + GetParam() + ")");
}

TEST(SecondDerivatives, OfTheTunedConvolutionsAreRefused) {
    const auto leaf = [](torch::IntArrayRef sizes) {
        return random(sizes).detach().to(torch::kFloat32).requires_grad_(true);
    };
    const auto x = leaf({1, 16, 4, 4}), bias = leaf({16});
    const auto y3 = conv3x3({x}, leaf({16, 16, 3, 3}), bias), y1 = conv1x1(x, {}, leaf({16, 16, 1, 1}), bias);
    for (const auto& y : {y3, y1}) {
        const auto gradient = [&](bool create_graph) {
            return torch::autograd::grad({y.square().sum()}, {x}, {}, /*retain_graph=*/true, create_graph)[0];
        };
        expect_contains(error_of([&] { gradient(/*create_graph=*/true); }), "no second derivative");
        EXPECT_GT(gradient(/*create_graph=*/false).norm().item<float>(), 0);
    }
}

TEST_P(Ops, AStepOfAdamWIsThatOfLibTorchsOperators) {
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
