#include "solve/adaptive.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "diffuse/base/error.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int kStages = 7;
constexpr double kSafety = 0.9, kMaxShrink = 0.2, kMaxGrowth = 5;
constexpr double kFirstChange = 0.01;  ///< of y by the first step that is tried, as a share of its size
constexpr double kMinStep = 1e-9;      ///< as a share of the whole way

constexpr std::array<double, kStages> kNodes = {0, 1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1, 1};
/// Row i: weights of the slopes before stage i. The last row is the solution of order 5.
constexpr double kWeights[kStages][kStages - 1] = {
    {},
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84}};
/// The solution of order 5 without that of order 4.
constexpr std::array<double, kStages> kError = {71.0 / 57600,      0,          -71.0 / 16695, 71.0 / 1920,
                                                -17253.0 / 339200, 22.0 / 525, -1.0 / 40};

/// y + h (weights[0] slopes[0] + ...)
State moved(const State& y, double h, const double* weights, const std::vector<State>& slopes) {
    State result;
    for (size_t part = 0; part < y.size(); ++part) {
        auto sum = y[part];
        for (size_t i = 0; i < slopes.size(); ++i) {
            if (weights[i] != 0) sum = sum + h * weights[i] * slopes[i][part];
        }
        result.push_back(sum);
    }
    return result;
}

/// The largest root mean square, over the parts, of `change` beside 1 + |y|.
double size_of(const State& change, const State& y, const State& other) {
    double largest = 0;
    for (size_t part = 0; part < y.size(); ++part) {
        const auto scale = 1 + torch::maximum(y[part].abs(), other[part].abs());
        const double size = (change[part] / scale).square().mean().sqrt().item<double>();
        if (!(size <= largest)) largest = size;  // NaN too
        if (std::isnan(largest)) break;
    }
    return largest;
}

State zeros_like(const State& y) {
    State zeros;
    for (const auto& part : y) zeros.push_back(torch::zeros_like(part));
    return zeros;
}

}  // namespace

State dormand_prince(const Slope& slope, State y, double from, double to, double tolerance) {
    const double way = std::abs(to - from), direction = to > from ? 1 : -1;
    double u = from, h = 0;
    State first = slope(u, y);
    h = std::min(way, kFirstChange / std::max(size_of(first, y, y), kFirstChange / way));
    while (direction * (to - u) > 0) {
        const bool last = h >= std::abs(to - u) * (1 - 1e-12);
        const double signed_h = last ? to - u : direction * h;
        std::vector<State> slopes = {first};
        State next;
        for (int stage = 1; stage < kStages; ++stage) {
            next = moved(y, signed_h, kWeights[stage], slopes);
            slopes.push_back(slope(stage + 1 >= kStages - 1 && last ? to : u + kNodes[size_t(stage)] * signed_h, next));
        }
        const double error = size_of(moved(zeros_like(y), signed_h, kError.data(), slopes), y, next) / tolerance;
        if (error <= 1) {
            u = last ? to : u + signed_h;
            y = next;
            first = slopes.back();
        } else if (!(std::abs(signed_h) > kMinStep * way)) {
            throw Error(fmt::format("a tolerance of {} cannot be held: the steps of dopri5 vanish; a larger one may do",
                                    tolerance),
                        kRunFailed);
        }
        const double factor =
            kSafety * std::pow(error, -0.2);  // infinite where there is no error, NaN where y has none
        h = std::abs(signed_h) * (factor > kMaxShrink ? std::min(factor, kMaxGrowth) : kMaxShrink);
    }
    return y;
}

}  // namespace diffuse
