// The hand-tuned operators against LibTorch's, on one thread. FLOP/s are those of the plain convolution, bytes/s what
// must be read and written at least.

#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include "diffuse/ops/adamw.hpp"
#include "diffuse/ops/conv1x1.hpp"
#include "diffuse/ops/conv3x3.hpp"
#include "diffuse/train/optimizer.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int64_t kImages = 64;

struct Size {
    int64_t in, out, side;
};

Tensor leaf(torch::IntArrayRef sizes) {
    auto x = torch::randn(sizes);
    if (x.dim() == 4) x = x.contiguous(torch::MemoryFormat::ChannelsLast);
    return x.requires_grad_(true);
}

/// Times `convolve`, and with `backward` the gradients too, of a kernel of kernel x kernel.
template <class Convolve>
void time_convolution(benchmark::State& state, const Size& size, int64_t kernel, bool backward,
                      const Convolve& convolve) {
    const auto direction =
        torch::randn({kImages, size.out, size.side, size.side}).contiguous(torch::MemoryFormat::ChannelsLast);
    for (auto _ : state) {
        const torch::AutoGradMode mode(backward);
        const auto y = convolve();
        if (backward) torch::autograd::backward({y}, {direction});
        benchmark::DoNotOptimize(y.template data_ptr<float>());
    }
    const double pixels = double(kImages * size.side * size.side), passes = backward ? 3 : 1;
    const double flop = 2 * pixels * double(kernel * kernel * size.in * size.out) * passes;
    state.counters["FLOP/s"] = benchmark::Counter(flop, benchmark::Counter::kIsIterationInvariantRate);
}

void run_conv3x3(benchmark::State& state, bool tuned, const Size& size, bool normalise, bool backward) {
    ConvInput input{leaf({kImages, size.in, size.side, size.side})};
    if (normalise) {
        input.groups = size.in / 8;
        input.scale = leaf({kImages, size.in});
        input.shift = leaf({kImages, size.in});
    }
    const auto weight = leaf({size.out, size.in, 3, 3}), bias = leaf({size.out});
    time_convolution(state, size, 3, backward,
                     [&] { return tuned ? conv3x3(input, weight, bias) : conv3x3_reference(input, weight, bias); });
}

/// Of two maps, as in the shortcuts on the way up.
void run_conv1x1(benchmark::State& state, bool tuned, const Size& size, bool backward) {
    const auto x = leaf({kImages, size.in / 2, size.side, size.side}), skip = leaf(x.sizes());
    const auto weight = leaf({size.out, size.in, 1, 1}), bias = leaf({size.out});
    time_convolution(state, size, 1, backward,
                     [&] { return tuned ? conv1x1(x, skip, weight, bias) : conv1x1_reference(x, skip, weight, bias); });
}

void run_adamw(benchmark::State& state, bool tuned) {
    const AdamWStep step{1, 0.9, 0.999, 1e-8, 1, 1e-3, 1, 0.999};
    const int64_t count = 1'000'000;
    const auto gradient = torch::randn({count}), mean = torch::zeros({count}), square = torch::zeros({count}),
               weights = torch::randn({count}), ema = weights.clone();
    for (auto _ : state) (tuned ? adamw_ : adamw_reference_)(step, gradient, mean, square, weights, ema);
    state.SetBytesProcessed(int64_t(state.iterations()) * count * int64_t(sizeof(float)) * 9);
}

/// A step of all weights of a network of the presets' kind.
void run_optimizer(benchmark::State& state, const std::string& optimizer, int64_t base_channels) {
    const Net network =
        make_unet({.base_channels = base_channels, .channel_multipliers = {1, 2, 2}, .attention_resolutions = {7}}, {},
                  /*seed=*/1, torch::kCPU);
    const auto groups = weight_groups(network, optimizer);
    const auto weights = flatten_parameters(groups.parameters()), ema = weights.clone();
    const auto gradient = torch::randn_like(weights);
    const TrainOptions options;
    Optimizer both(groups, options, weights, ema);
    for (auto _ : state) both.step(gradient, /*factor=*/1, /*adamw_rate=*/1e-3, /*muon_rate=*/1e-3, /*ema_decay=*/0.9);
}

/// The way of so many images forward and back through a network of the presets' kind, as in a part of a batch.
void run_network(benchmark::State& state, int64_t base_channels, int64_t images) {
    const Net made =
        make_unet({.base_channels = base_channels, .channel_multipliers = {1, 2, 2}, .attention_resolutions = {7}}, {},
                  /*seed=*/1, torch::kCPU, /*classes=*/10);
    const Net network = made.packed(/*backward=*/true);
    const auto x = torch::randn({images, 1, 28, 28}), time = torch::full({images}, 500.0);
    const auto classes = torch::randint(0, 10, {images});
    for (auto _ : state) network({x, time, {.classes = classes}}).square().mean().backward();
    state.counters["images/s"] = benchmark::Counter(double(images), benchmark::Counter::kIsIterationInvariantRate);
}

template <class... Arguments>
void add(const std::string& name, void (*run)(benchmark::State&, bool, Arguments...),
         const std::type_identity_t<Arguments>&... arguments) {
    for (const auto& [who, tuned] : {std::pair{"diffuse", true}, std::pair{"LibTorch", false}}) {
        benchmark::RegisterBenchmark((name + "/" + who).c_str(), run, tuned, arguments...)
            ->Unit(benchmark::kMillisecond);
    }
}

void add_all() {
    const auto name = [](const std::string& what, const Size& size, bool backward) {
        return fmt::format("{} {}/{}->{}/{}x{}", what, backward ? "and gradients" : "forward", size.in, size.out,
                           size.side, size.side);
    };
    for (const bool backward : {false, true}) {
        for (const Size& size :
             {Size{32, 32, 28}, {64, 64, 28}, {64, 64, 14}, {128, 128, 14}, {64, 64, 7}, {128, 128, 7}}) {
            add(name("conv3x3", size, backward), &run_conv3x3, size, false, backward);
            add(name("normalised conv3x3", size, backward), &run_conv3x3, size, true, backward);
        }
        for (const Size& size : {Size{64, 32, 28}, {128, 64, 14}, {128, 64, 7}}) {
            add(name("conv1x1 of two maps", size, backward), &run_conv1x1, size, backward);
        }
    }
    add("AdamW with EMA, 1M weights", &run_adamw);
    for (const int64_t base_channels : {16, 32}) {
        for (const int64_t images : {4, 8, 16, 32}) {
            const auto of_network = fmt::format("network, {} channels, part of {}", base_channels, images);
            benchmark::RegisterBenchmark(of_network.c_str(), run_network, base_channels, images)
                ->Unit(benchmark::kMillisecond);
        }
    }
    for (const auto& optimizer : optimizer_names()) {
        for (const int64_t base_channels : {16, 32}) {
            benchmark::RegisterBenchmark(fmt::format("optimizer, {} channels/{}", base_channels, optimizer).c_str(),
                                         run_optimizer, optimizer, base_channels)
                ->Unit(benchmark::kMillisecond);
        }
    }
}

}  // namespace
}  // namespace diffuse

int main(int argc, char** argv) {
    at::set_num_threads(1);
    benchmark::Initialize(&argc, argv);
    diffuse::add_all();
    benchmark::RunSpecifiedBenchmarks();
}
