#include "diffuse/data/toys.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "data/kinds.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse {
namespace {

using std::numbers::pi;

struct Place {
    double x, y;
};

/// Two half circles of radius 2, moved by 0.2.
Place moon(int64_t part, double along) {
    const double t = pi * along;
    const Place p = part == 0 ? Place{std::cos(t), std::sin(t)} : Place{1 - std::cos(t), 0.5 - std::sin(t)};
    return {2 * p.x - 1, 2 * p.y - 0.2};
}

/// (t cos t, t sin t) / 5, t from 1.5 pi to 4.5 pi, moved by 0.2.
Place roll(int64_t, double along) {
    const double t = 1.5 * pi * (1 + 2 * along);
    return {t * std::cos(t) / 5, t * std::sin(t) / 5};
}

/// Circles of radius 3, 2.25, 1.5 and 0.75, moved by 0.08.
Place ring(int64_t part, double along) {
    const double radius = 3 - 0.75 * double(part), t = 2 * pi * along;
    return {radius * std::cos(t), radius * std::sin(t)};
}

/// Points along curves, uniform in `along`, moved by normal noise.
struct Curves {
    int64_t parts;
    Place (*at)(int64_t part, double along);  ///< in [0, 1)
    double std;
    int64_t nodes;  ///< of each part, that stand for it in `known_mixture`: much closer than std
};

/// Uniform on 8 squares of side 2.
Place on_checkerboard(int64_t, Random& random) {
    const double x = random.uniform(-2, 2);
    const double within = random.uniform(), row = double(2 * random.below(2));
    return {2 * x, 2 * (within - row + std::fmod(std::floor(x) + 2, 2.0))};
}

/// Five arms.
constexpr int64_t kArms = 5;
Place on_pinwheel(int64_t arm, Random& random) {
    const double radial = 1 + 0.3 * random.normal(), tangential = 0.1 * random.normal();
    const double angle = 2 * pi * double(arm) / double(kArms) + 0.25 * std::exp(radial);
    return {2 * (radial * std::cos(angle) + tangential * std::sin(angle)),
            2 * (tangential * std::cos(angle) - radial * std::sin(angle))};
}

/// Normal distributions of standard deviation 0.354 on a circle of radius 2.83; FFJORD divides by 1.414.
Mixture eight_gaussians(const DatasetOptions&) {
    std::vector<double> means;
    for (int i = 0; i < 8; ++i) {
        means.push_back(4 * std::cos(pi * i / 4) / 1.414);
        means.push_back(4 * std::sin(pi * i / 4) / 1.414);
    }
    return {torch::tensor(means, torch::kFloat64).view({8, 2}), torch::full({8}, 0.5 / 1.414, torch::kFloat64),
            torch::full({8}, 0.125, torch::kFloat64)};
}

/// Normal distributions along the branches of two trees that grow out of the origin, one to the upper right and one to
/// the lower left, after the image of autoguidance (Karras et al. 2024, arXiv:2406.02507, figure 1); the class is the
/// tree.
struct Fractal {
    std::vector<double> means, stds, weights;
    std::vector<int64_t> trees;

    void grow(int64_t tree, Place from, double angle, double length, int64_t depth) {
        constexpr int64_t kNodes = 8, kDepth = 6;
        constexpr double kShorter = 0.72;
        const Place end{from.x + length * std::cos(angle), from.y + length * std::sin(angle)};
        for (int64_t i = 0; i < kNodes; ++i) {
            const double along = (double(i) + 0.5) / double(kNodes);
            means.insert(means.end(), {from.x + along * (end.x - from.x), from.y + along * (end.y - from.y)});
            stds.push_back(0.06 * length);
            weights.push_back(std::pow(0.5, depth) *
                              length);  // both that grow out of a branch have 0.72 of it, like their length
            trees.push_back(tree);
        }
        if (depth == kDepth) return;
        for (const double turn : {-0.4, 0.6}) {
            grow(tree, end, angle + turn, kShorter * length, depth + 1);
        }
    }
};

const Fractal& fractal() {
    static const Fractal all = [] {
        Fractal trees;
        for (const int64_t tree : {0, 1}) trees.grow(tree, {0, 0}, pi / 4 + pi * double(tree), 1, 0);
        return trees;
    }();
    return all;
}

Mixture fractal_mixture(const DatasetOptions&) {
    const auto weights = torch::tensor(fractal().weights, torch::kFloat64);
    return {torch::tensor(fractal().means, torch::kFloat64).view({-1, 2}),
            torch::tensor(fractal().stds, torch::kFloat64), weights / weights.sum()};
}

/// Round normal distributions of options.means, options.stds and options.weights, in as many dimensions as the means
/// have.
Mixture mixture_of(const DatasetOptions& options) {
    const auto fail = [](const std::string& what) { throw Error("config: dataset." + what); };
    const size_t count = options.means.size();
    if (count == 0) fail("means is empty; kind mixture needs a list of points, as [[-1, 0], [1, 0]]");
    std::vector<double> means;
    for (const auto& mean : options.means) {
        if (mean.size() != options.means[0].size() || mean.empty()) fail("means: its points are not of one length");
        means.insert(means.end(), mean.begin(), mean.end());
    }
    const auto each = [&](const std::vector<double>& values, const char* key, double by_default) {
        if (!values.empty() && values.size() != count) {
            fail(fmt::format("{} has {} numbers for {} means; give one for each", key, values.size(), count));
        }
        return torch::tensor(values.empty() ? std::vector<double>(count, by_default) : values, torch::kFloat64);
    };
    const auto weights = each(options.weights, "weights", 1);
    return {torch::tensor(means, torch::kFloat64).view({int64_t(count), -1}), each(options.stds, "stds", 1),
            weights / weights.sum()};
}

/// A point of a mixture, and which of its components it is of.
int64_t draw_of(const Mixture& mixture, Random& random, double* out) {
    const double* weights = mixture.weights.data_ptr<double>();
    int64_t part = 0;
    for (double left = random.uniform(); part + 1 < mixture.weights.size(0) && left >= weights[part]; ++part) {
        left -= weights[part];
    }
    const int64_t dimensions = mixture.means.size(1);
    for (int64_t i = 0; i < dimensions; ++i) {
        out[i] = mixture.means.data_ptr<double>()[part * dimensions + i] +
                 mixture.stds.data_ptr<double>()[part] * random.normal();
    }
    return part;
}

/// How points of a kind are drawn: into `out`, with the part that they are of.
struct Distribution {
    int64_t dimensions, parts;
    std::function<int64_t(Random& random, double* out)> draw;
};

Columns plain_columns(int64_t dimensions) {
    if (dimensions == 2) return {{"x"}, {"y"}};
    Columns columns;
    for (int64_t i = 1; i <= dimensions; ++i) columns.push_back({fmt::format("x{}", i)});
    return columns;
}

Mixture mixture_along(const Curves& curves) {
    std::vector<double> means;
    for (int64_t part = 0; part < curves.parts; ++part) {
        for (int64_t i = 0; i < curves.nodes; ++i) {
            const Place p = curves.at(part, (double(i) + 0.5) / double(curves.nodes));
            means.insert(means.end(), {p.x, p.y});
        }
    }
    const int64_t count = curves.parts * curves.nodes;
    return {torch::tensor(means, torch::kFloat64).view({count, 2}), torch::full({count}, curves.std, torch::kFloat64),
            torch::full({count}, 1.0 / double(count), torch::kFloat64)};
}

/// A row of the table of point sets.
struct PointKind {
    std::function<Distribution(const DatasetOptions&)> distribution;
    std::function<Mixture(const DatasetOptions&)> mixture = nullptr;  ///< of those that are one, or nearly
};

/// `labels`: of its components, where they are not the classes themselves.
PointKind of_mixture(Mixture (*mixture)(const DatasetOptions&), const std::vector<int64_t>& labels = {}) {
    return {[=](const DatasetOptions& options) -> Distribution {
                const Mixture all = mixture(options);
                return {all.means.size(1), labels.empty() ? all.means.size(0) : 1 + std::ranges::max(labels),
                        [=](Random& random, double* out) {
                            const int64_t part = draw_of(all, random, out);
                            return labels.empty() ? part : labels[size_t(part)];
                        }};
            },
            mixture};
}

/// Points in the plane, of parts that are equally likely.
PointKind in_plane(int64_t parts, const std::function<Place(int64_t part, Random& random)>& point) {
    return {[=](const DatasetOptions&) -> Distribution {
        return {2, parts, [=](Random& random, double* out) {
                    const auto part = int64_t(random.below(uint64_t(parts)));
                    const Place p = point(part, random);
                    out[0] = p.x, out[1] = p.y;
                    return part;
                }};
    }};
}

PointKind along(const Curves& curves) {
    auto kind = in_plane(curves.parts, [=](int64_t part, Random& random) {
        const Place p = curves.at(part, random.uniform());
        return Place{p.x + curves.std * random.normal(), p.y + curves.std * random.normal()};
    });
    kind.mixture = [=](const DatasetOptions&) { return mixture_along(curves); };
    return kind;
}

const Table<PointKind>& point_table() {
    static const Table<PointKind> table = {{"eight-gaussians", of_mixture(eight_gaussians)},
                                           {"checkerboard", in_plane(1, on_checkerboard)},
                                           {"pinwheel", in_plane(kArms, on_pinwheel)},
                                           {"fractal", of_mixture(fractal_mixture, fractal().trees)},
                                           {"mixture", of_mixture(mixture_of)},
                                           {"two-moons", along({2, moon, 0.2, 400})},
                                           {"swiss-roll", along({1, roll, 0.2, 1000})},
                                           {"rings", along({4, ring, 0.08, 600})}};
    return table;
}

}  // namespace

std::vector<std::string> point_kinds() { return names(point_table()); }

Dataset draw_points(const DatasetOptions& options, Split split) {
    constexpr int64_t kDefault = 100'000;
    const bool training = split == Split::kTrain;
    const int64_t asked = options.limit > 0 ? options.limit : kDefault;
    const int64_t count = training ? asked : std::min(asked, kMaxDrawnTest);
    const auto [dimensions, parts, draw] = look_up("data set", point_table(), options.kind).distribution(options);
    auto labels = torch::empty({count}, torch::kInt64);
    int64_t* const label = labels.data_ptr<int64_t>();
    const Key key{uint64_t(options.seed), Purpose::kToy, training ? 0 : uint64_t(kFirstDrawnTest)};
    const auto values = draw_rows(key, count, dimensions, [&, &draw = draw](Random& random, int64_t i, double* out) {
        label[i] = draw(random, out);
    });
    Dataset dataset{values.to(torch::kFloat32)};
    dataset.spec.shape = ExampleShape::of_points(dimensions);
    dataset.spec.codec.columns = plain_columns(dimensions);
    for (int64_t i = 0; i < dimensions; ++i) {
        dataset.spec.codec.columns[size_t(i)].range = range_of(values.select(1, i));
    }
    if (parts > 1) dataset.condition.classes = labels, dataset.spec.condition.classes = parts;
    return dataset;
}

std::optional<Mixture> known_mixture(const DatasetOptions& options) {
    const PointKind* kind = find(point_table(), options.kind);
    return kind && kind->mixture ? std::optional(kind->mixture(options)) : std::nullopt;
}

}  // namespace diffuse
