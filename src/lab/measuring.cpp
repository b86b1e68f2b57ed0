#include <fmt/format.h>

#include <cmath>

#include "diffuse/base/error.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/solve/sampler.hpp"
#include "lab/experiments.hpp"

namespace diffuse::lab {

torch::Tensor Draws::normal(torch::IntArrayRef shape) {
    return diffuse::normal(shape, {seed_, Purpose::kLab, next_++}).to(torch::kFloat64);
}

torch::Tensor Draws::uniform(torch::IntArrayRef shape) { return 0.5 * (1 + (normal(shape) / std::sqrt(2.0)).erf()); }

torch::Tensor Draws::signs(torch::IntArrayRef shape) {
    return torch::where(normal(shape) < 0, -1.0, 1.0).to(torch::kFloat64);
}

StepNoise Draws::step_noise(torch::IntArrayRef shape) {
    return [seed = seed_, index = next_++, sizes = shape.vec()](int64_t step, int64_t k) {
        return diffuse::normal(sizes, {seed, Purpose::kLab, index, uint32_t(step_draw(step, k))}).to(torch::kFloat64);
    };
}

void require_multiple(const std::string& key, int64_t value, int64_t step, int64_t rest) {
    if (value % step == rest) return;
    const int64_t nearest = std::lround(double(value - rest) / double(step)) * step + rest;
    throw Error(fmt::format("settings: {} is {}; expected a multiple of {}{}, the nearest is {}", key, value, step,
                            rest == 1 ? " and one more" : "", nearest));
}

Mean mean_of(const torch::Tensor& numbers) {
    const auto x = numbers.to(torch::kFloat64);
    return {x.mean().item<double>(), x.std().item<double>() / std::sqrt(double(x.numel()))};
}

double largest(const torch::Tensor& numbers) { return numbers.abs().max().item<double>(); }

torch::Tensor doubles(const std::vector<double>& values) { return torch::tensor(values, torch::kFloat64); }

double double_well(double x) { return std::pow(x * x - 1, 2); }

double slope(const std::vector<double>& x, const std::vector<double>& y) {
    double sum_x = 0, sum_y = 0, sum_xx = 0, sum_xy = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        const double a = std::log(x[i]), b = std::log(y[i]);
        sum_x += a, sum_y += b, sum_xx += a * a, sum_xy += a * b;
    }
    const double n = double(x.size());
    return (n * sum_xy - sum_x * sum_y) / (n * sum_xx - sum_x * sum_x);
}

double order_of(const std::function<double(double)>& error, const std::vector<double>& steps) {
    return slope(steps, at_each(steps, error));
}

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

double integral(const std::function<double(double)>& f, double low, double high, int64_t pairs) {
    const double h = (high - low) / double(2 * pairs);
    double sum = f(low) + f(high);
    for (int64_t i = 1; i < 2 * pairs; ++i) sum += (i % 2 ? 4 : 2) * f(low + double(i) * h);
    return sum * h / 3;
}

double root(const std::function<double(double)>& f, double low, double high) {
    const bool rises = f(high) > 0;
    for (int i = 0; i < 60; ++i) {
        const double middle = (low + high) / 2;
        ((f(middle) > 0) == rises ? high : low) = middle;
    }
    return (low + high) / 2;
}

std::vector<double> spaced(double low, double high, int64_t count) {
    std::vector<double> result;
    for (int64_t i = 0; i < count; ++i) result.push_back(low + (high - low) * double(i) / double(count - 1));
    return result;
}

std::vector<double> at_each(const std::vector<double>& x, const std::function<double(double)>& f) {
    std::vector<double> result;
    for (const double one : x) result.push_back(f(one));
    return result;
}

Curve formula(std::string name, const std::vector<double>& x, const std::function<double(double)>& f) {
    return {std::move(name), x, at_each(x, f), Mark::kLine};
}

Curve measured(std::string name, const std::vector<double>& x, const std::function<double(double)>& f) {
    return {std::move(name), x, at_each(x, f), Mark::kPoints};
}

Curve histogram(std::string name, const torch::Tensor& numbers, double low, double high, int64_t bins) {
    const double width = (high - low) / double(bins);
    const auto density = torch::histc(numbers, bins, low, high) / (double(numbers.numel()) * width);
    return {std::move(name), spaced(low + width / 2, high - width / 2, bins), diffuse::numbers(density), Mark::kPoints};
}

Curve paths_curve(const std::string& name, const std::vector<double>& times, const torch::Tensor& values) {
    const double gap = std::numeric_limits<double>::quiet_NaN();
    Curve curve{name, {}, {}, Mark::kThin};
    for (int64_t i = 0; i < values.size(0); ++i) {
        const auto y = numbers(values[i]);
        curve.x.insert(curve.x.end(), times.begin(), times.end()), curve.x.push_back(gap);
        curve.y.insert(curve.y.end(), y.begin(), y.end()), curve.y.push_back(gap);
    }
    return curve;
}

}  // namespace diffuse::lab
