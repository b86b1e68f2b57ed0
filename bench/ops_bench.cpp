// The hand-tuned operators against LibTorch's, on one thread; GFLOP/s are those of the plain convolution.

#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include "diffuse/ops.hpp"

namespace diffuse {
namespace {

using torch::Tensor;
using Convolve = Tensor (*)(const ConvInput&, const Tensor&, const Tensor&);

struct Size {
    int64_t in, out, side;
};

Tensor leaf(torch::IntArrayRef sizes) {
    return torch::randn(sizes).contiguous(torch::MemoryFormat::ChannelsLast).requires_grad_(true);
}

void run(benchmark::State& state, Convolve convolve, const Size& size, bool normalise, bool backward) {
    const int64_t images = 64;
    ConvInput input{leaf({images, size.in, size.side, size.side})};
    if (normalise) {
        input.groups = size.in / 8;
        input.scale = torch::randn({images, size.in}).requires_grad_(true);
        input.shift = torch::randn({images, size.in}).requires_grad_(true);
    }
    const auto weight = leaf({size.out, size.in, 3, 3}), bias = torch::randn({size.out}).requires_grad_(true);
    const auto direction =
        torch::randn({images, size.out, size.side, size.side}).contiguous(torch::MemoryFormat::ChannelsLast);
    for (auto _ : state) {
        const torch::AutoGradMode mode(backward);
        const auto y = convolve(input, weight, bias);
        if (backward) torch::autograd::backward({y}, {direction});
        benchmark::DoNotOptimize(y.data_ptr<float>());
    }
    const double flop = 2.0 * 9 * double(images * size.in * size.out * size.side * size.side) * (backward ? 3 : 1);
    state.counters["FLOP/s"] = benchmark::Counter(flop, benchmark::Counter::kIsIterationInvariantRate);
}

Tensor tuned(const ConvInput& input, const Tensor& weight, const Tensor& bias) { return conv3x3(input, weight, bias); }
Tensor plain(const ConvInput& input, const Tensor& weight, const Tensor& bias) {
    return conv3x3_reference(input, weight, bias);
}

void add_all() {
    for (const auto& size :
         std::vector<Size>{{32, 32, 28}, {64, 64, 28}, {64, 64, 14}, {128, 128, 14}, {64, 64, 7}, {128, 128, 7}}) {
        for (const bool normalise : {false, true}) {
            for (const bool backward : {false, true}) {
                const auto name =
                    fmt::format("{}{}/{}->{}/{}x{}", normalise ? "normalised " : "convolution ",
                                backward ? "and gradients" : "forward", size.in, size.out, size.side, size.side);
                for (const auto& [who, convolve] :
                     std::vector<std::pair<std::string, Convolve>>{{"diffuse", tuned}, {"LibTorch", plain}}) {
                    benchmark::RegisterBenchmark((name + "/" + who).c_str(), run, convolve, size, normalise, backward)
                        ->Unit(benchmark::kMillisecond);
                }
            }
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
