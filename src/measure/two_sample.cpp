#include "diffuse/measure/two_sample.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "diffuse/base/error.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/train/optimizer.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int64_t kFolds = 5, kPointsPerStep = 200, kPatience = 10;
constexpr double kRate = 1e-3;
constexpr double kLeastFall = 1e-4;                       // of the loss in an epoch
constexpr double kWeightPenalty = 1e-4;                   // scikit-learn's alpha
constexpr uint64_t kRelabellings = uint64_t(1) << 32;     // the first index of their random numbers, after the folds'
constexpr int64_t kDistancesPerGroup = int64_t(1) << 20;  // 8 MB

void require_samples(const Tensor& x, const Tensor& y, int64_t least) {
    for (const auto& sample : {x, y}) {
        if (sample.dim() != 2 || sample.size(0) < least || sample.size(1) < 1)
            throw Error(fmt::format("a two-sample test needs two samples of {} points or more each", least));
        const int64_t count = sample.size(0), bad = count - sample.isfinite().all(1).sum().item<int64_t>();
        if (bad > 0) throw Error(fmt::format("{} of a sample's {} points are not finite; leave these out", bad, count));
    }
    if (x.size(1) != y.size(1)) {
        throw Error(fmt::format("a two-sample test needs samples of one dimension; these have {} and {}", x.size(1),
                                y.size(1)));
    }
}

/// A layer's weight, [in, out], and bias, [out].
struct DenseLayer {
    Tensor weight, bias;
};

/// The classifier: D -> 10 D -> 10 D -> 1, with ReLU between, of which the last number is the log odds that a point is
/// y's. Its numbers lie in one vector, all weights before all biases, so that Adam's step is one for all of them.
class SmallNetwork {
public:
    SmallNetwork(int64_t dimensions, const Key& key)
        : widths_{dimensions, 10 * dimensions, 10 * dimensions, 1},
          weight_count_(std::inner_product(widths_.begin(), widths_.end() - 1, widths_.begin() + 1, int64_t{0})),
          numbers_(torch::zeros({std::accumulate(widths_.begin() + 1, widths_.end(), weight_count_)})),
          gradient_(torch::zeros_like(numbers_)),
          layers_(layers_of(numbers_)),
          gradient_layers_(layers_of(gradient_)),
          adam_(numbers_, /*ema=*/torch::zeros_like(numbers_), /*beta2=*/0.999, /*weight_decay=*/0) {
        initialise(Random(key));
    }

    /// points: float [n, D]. Returns the log odds, [n, 1].
    Tensor operator()(const Tensor& points) const { return activations(points).back(); }

    /// A step of Adam on the mean cross-entropy of the points and scikit-learn's penalty, alpha |W|^2 / (2 n). points:
    /// [n, D]; is_y: [n, 1], 0 or 1. Writes the log odds before the step to `log_odds`, [n, 1].
    void step(const Tensor& points, const Tensor& is_y, const Tensor& log_odds);

    /// |W|^2 as a tensor of no dimensions.
    Tensor squared_weights() const {
        const auto weights = numbers_.narrow(0, 0, weight_count_);
        return weights.dot(weights);
    }

private:
    std::vector<DenseLayer> layers_of(const Tensor& vector) const;
    void initialise(Random random);
    std::vector<Tensor> activations(const Tensor& points) const;
    void differentiate(const std::vector<Tensor>& values, const Tensor& is_y);

    std::vector<int64_t> widths_;
    int64_t weight_count_;
    Tensor numbers_, gradient_;
    std::vector<DenseLayer> layers_, gradient_layers_;
    AdamW adam_;
};

/// Each layer's part of a vector of numbers_'s layout.
std::vector<DenseLayer> SmallNetwork::layers_of(const Tensor& vector) const {
    std::vector<DenseLayer> result;
    int64_t weight = 0, bias = weight_count_;
    for (size_t i = 0; i + 1 < widths_.size(); ++i) {
        const int64_t in = widths_[i], out = widths_[i + 1];
        result.push_back({vector.narrow(0, weight, in * out).view({in, out}), vector.narrow(0, bias, out)});
        weight += in * out;
        bias += out;
    }
    return result;
}

/// Glorot & Bengio 2010, eq. 16, for the biases too, as scikit-learn does.
void SmallNetwork::initialise(Random random) {
    for (const auto& layer : layers_) {
        const double bound = std::sqrt(6.0 / double(layer.weight.size(0) + layer.weight.size(1)));
        for (const auto& part : {layer.weight, layer.bias}) {
            float* const out = part.data_ptr<float>();
            for (int64_t i = 0; i < part.numel(); ++i) out[i] = float(random.uniform(-bound, bound));
        }
    }
}

/// The points and what each layer makes of them: [n, width] each.
std::vector<Tensor> SmallNetwork::activations(const Tensor& points) const {
    std::vector<Tensor> result = {points};
    for (size_t i = 0; i < layers_.size(); ++i) {
        result.push_back(at::addmm(layers_[i].bias, result.back(), layers_[i].weight));
        if (i + 1 < layers_.size()) result.back().relu_();
    }
    return result;
}

/// Writes the gradient of the mean cross-entropy and of the penalty, at these activations.
void SmallNetwork::differentiate(const std::vector<Tensor>& values, const Tensor& is_y) {
    const double count = double(is_y.size(0));
    auto slope = at::sigmoid(values.back()).sub_(is_y).mul_(1 / count);
    for (size_t i = layers_.size(); i-- > 0;) {
        auto& [weight, bias] = gradient_layers_[i];
        at::mm_out(weight, values[i].t(), slope);
        at::sum_out(bias, slope, 0);
        if (i > 0) slope = at::threshold_backward(at::mm(slope, layers_[i].weight.t()), values[i], 0);
    }
    gradient_.narrow(0, 0, weight_count_).add_(numbers_.narrow(0, 0, weight_count_), kWeightPenalty / count);
}

void SmallNetwork::step(const Tensor& points, const Tensor& is_y, const Tensor& log_odds) {
    const auto all = activations(points);
    log_odds.copy_(all.back());
    differentiate(all, is_y);
    adam_.step(gradient_, /*factor=*/1, kRate, /*ema_decay=*/1);  // the average is not asked for
}

/// Points and whose they are: float [n, D] and [n, 1], 1 for y's.
struct LabelledPoints {
    Tensor points, is_y;

    int64_t size() const { return points.size(0); }
    LabelledPoints chosen(const std::vector<int64_t>& which) const {
        const auto index = torch::tensor(which, torch::kInt64);
        return {points.index_select(0, index), is_y.index_select(0, index)};
    }
};

/// Both samples, z-scored by x's mean and standard deviation.
LabelledPoints z_scored_samples(const Tensor& x, const Tensor& y) {
    const auto reference = x.to(torch::kFloat64), mean = reference.mean(0), deviation = reference.std(0);
    const auto scale = torch::where(deviation > 0, deviation, torch::ones_like(deviation));
    const auto points = (torch::cat({reference, y.to(torch::kFloat64)}) - mean) / scale;
    return {points.to(torch::kFloat32), torch::cat({torch::zeros({x.size(0), 1}), torch::ones({y.size(0), 1})})};
}

/// A pass over the points in this order. Returns the mean of the losses before each step, as scikit-learn adds them up.
double train_epoch(SmallNetwork& network, const LabelledPoints& all, const std::vector<int64_t>& order) {
    const auto [points, is_y] = all.chosen(order);
    const auto log_odds = torch::empty_like(is_y);
    const int64_t count = points.size(0);
    auto squares = torch::zeros({});
    for (int64_t first = 0; first < count; first += kPointsPerStep) {
        const int64_t size = std::min(kPointsPerStep, count - first);
        squares.add_(network.squared_weights());
        network.step(points.narrow(0, first, size), is_y.narrow(0, first, size), log_odds.narrow(0, first, size));
    }
    const auto cross_entropy = (at::softplus(log_odds) - log_odds * is_y).mean(torch::kFloat64);
    return cross_entropy.item<double>() + kWeightPenalty / 2 * squares.item<double>() / double(count);
}

/// Trains until the loss no longer falls, by random numbers of index `index`.
SmallNetwork trained(const LabelledPoints& points, uint64_t seed, uint64_t index, int64_t max_epochs) {
    SmallNetwork network(points.points.size(1), {seed, Purpose::kTwoSample, index, 0});
    double least = INFINITY;
    int64_t epochs_in_vain = 0;
    for (int64_t epoch = 1; epoch <= max_epochs && epochs_in_vain <= kPatience; ++epoch) {
        const auto order = permutation(points.size(), {seed, Purpose::kTwoSample, index, uint32_t(epoch)});
        const double loss = train_epoch(network, points, order);
        epochs_in_vain = loss > least - kLeastFall ? epochs_in_vain + 1 : 0;
        least = std::min(least, loss);
    }
    return network;
}

/// The share of points whose sample the network names; even odds count as x.
double accuracy(const SmallNetwork& network, const LabelledPoints& points) {
    const auto right = (network(points.points) > 0) == (points.is_y > 0);
    return right.to(torch::kFloat64).mean().item<double>();
}

/// What each fold holds out, of n points of x and m of y behind them: a fifth of each, the same ones where n is m.
std::vector<std::vector<int64_t>> held_out(int64_t n, int64_t m, uint64_t seed) {
    std::vector<std::vector<int64_t>> folds(kFolds);
    const auto share_out = [&](int64_t first, int64_t count) {
        const auto order = permutation(count, {seed, Purpose::kTwoSample});
        for (int64_t i = 0; i < count; ++i) folds[size_t(i * kFolds / count)].push_back(first + order[size_t(i)]);
    };
    share_out(0, n);
    share_out(n, m);
    return folds;
}

/// The accuracy on one of the folds of the network that is trained on the others.
double fold_accuracy(const LabelledPoints& all, const std::vector<std::vector<int64_t>>& folds, size_t fold,
                     uint64_t seed, int64_t max_epochs) {
    std::vector<int64_t> rest;
    for (size_t other = 0; other < folds.size(); ++other) {
        if (other != fold) rest.insert(rest.end(), folds[other].begin(), folds[other].end());
    }
    return accuracy(trained(all.chosen(rest), seed, 1 + fold, max_epochs), all.chosen(folds[fold]));
}

/// The mean of the folds' accuracies, of which each was trained on what others were tested with.
Estimate mean_of_folds(const std::vector<double>& accuracies) {
    const Estimate mean = mean_estimate(torch::tensor(accuracies, torch::kFloat64));
    const double folds = double(kFolds), test_for_training = 1 / (folds - 1);
    return {mean.value, mean.error * std::sqrt(1 + folds * test_for_training)};
}

/// The points' weights in x's mean less their weights in y's, 1 / N or -1 / M: of the true labels in the first row, of
/// random relabellings in the others. Returns float64 [1 + permutations, N + M].
Tensor signed_weights(int64_t n, int64_t m, int64_t permutations, uint64_t seed) {
    auto weights = torch::empty({1 + permutations, n + m}, torch::kFloat64);
    double* const out = weights.data_ptr<double>();
    const auto weight_of = [&](int64_t place) { return place < n ? 1 / double(n) : -1 / double(m); };
    for (int64_t i = 0; i < n + m; ++i) out[i] = weight_of(i);
    for (int64_t p = 1; p <= permutations; ++p) {
        const auto places = permutation(n + m, {seed, Purpose::kTwoSample, kRelabellings + uint64_t(p)});
        for (int64_t i = 0; i < n + m; ++i) out[p * (n + m) + i] = weight_of(places[size_t(i)]);
    }
    return weights;
}

/// The energy distance of each row w of `weights`: the sum of -w_i w_j |z_i - z_j| over all pairs. points: [n, D].
Tensor energy_distances(const Tensor& points, const Tensor& weights, int64_t threads) {
    constexpr int64_t kExactly = 2;  // cdist's mode: from the differences themselves
    const int64_t count = points.size(0), group = std::max<int64_t>(1, kDistancesPerGroup / count);
    auto sums = torch::zeros({(count + group - 1) / group, weights.size(0)}, torch::kFloat64);
    for_each_group(count, group, torch::kCPU, threads, [&](int64_t first, int64_t size) {
        const c10::InferenceMode inference;
        const auto distances = torch::cdist(points.narrow(0, first, size), points, /*p=*/2, kExactly);
        const auto products = distances.mm(weights.t()) * weights.narrow(1, first, size).t();
        sums[first / group].copy_(products.sum(0));
    });
    auto result = torch::zeros({weights.size(0)}, torch::kFloat64);
    for (int64_t g = 0; g < sums.size(0); ++g) result -= sums[g];
    return result;
}

}  // namespace

Estimate classifier_two_sample_test(const Tensor& x, const Tensor& y, uint64_t seed, int64_t max_epochs) {
    const int64_t threads = at::get_num_threads();
    const SingleThreaded guard;  // sums in one order
    require_samples(x, y, kFolds);
    const auto all = z_scored_samples(x, y);
    const auto folds = held_out(x.size(0), y.size(0), seed);
    std::vector<double> accuracies(kFolds);
    for_each_group(kFolds, /*group=*/1, torch::kCPU, threads, [&](int64_t fold, int64_t) {
        const c10::InferenceMode inference;
        accuracies[size_t(fold)] = fold_accuracy(all, folds, size_t(fold), seed, max_epochs);
    });
    return mean_of_folds(accuracies);
}

EnergyTest energy_test(const Tensor& x, const Tensor& y, int64_t permutations, uint64_t seed) {
    TORCH_INTERNAL_ASSERT(permutations >= 0);
    const int64_t threads = at::get_num_threads();
    const SingleThreaded guard;  // sums in one order
    require_samples(x, y, 1);
    const auto points = torch::cat({x.to(torch::kFloat64), y.to(torch::kFloat64)});
    const auto weights = signed_weights(x.size(0), y.size(0), permutations, seed);
    const auto distances = energy_distances(points, weights, threads);
    const double distance = distances[0].item<double>();
    // A relabelling that changes nothing may differ by rounding: it counts as equal.
    const double rounding = 1e-12 * (points - points[0]).square().sum(1).max().sqrt().item<double>();
    const auto as_large = distances.narrow(0, 1, permutations) >= distance - rounding;
    return {std::max(0.0, distance), double(1 + as_large.sum().item<int64_t>()) / double(1 + permutations)};
}

RankTest rank_test(const Tensor& ranks, int64_t draws, int64_t bins) {
    if (bins < 2 || draws < 1 || (draws + 1) % bins != 0) {
        throw Error(
            fmt::format("{} bins do not divide the {} ranks that {} draws can give into equal parts; take two "
                        "or more bins that do",
                        bins, draws + 1, draws));
    }
    if (ranks.numel() == 0 || ranks.min().item<int64_t>() < 0 || ranks.max().item<int64_t>() > draws)
        throw Error(fmt::format("a test of ranks needs one or more, each from 0 to {}", draws));
    const auto bin = ranks.to(torch::kInt64).flatten().div((draws + 1) / bins, "floor");
    const auto counts = torch::bincount(bin, {}, bins);
    const double expected = double(ranks.numel()) / double(bins);
    const auto excess = counts.to(torch::kFloat64) - expected;
    const double chi_square = excess.square().sum().item<double>() / expected;
    const int64_t* const first = counts.data_ptr<int64_t>();
    return {{first, first + bins}, chi_square, chi_square_p_value(chi_square, bins - 1)};
}

double chi_square_p_value(double chi_square, int64_t degrees_of_freedom) {
    TORCH_INTERNAL_ASSERT(degrees_of_freedom > 0 && chi_square >= 0);
    const auto half = [](double value) { return torch::full({}, value / 2, torch::kFloat64); };
    return at::special_gammaincc(half(double(degrees_of_freedom)), half(chi_square)).item<double>();
}

}  // namespace diffuse
