#include "lab/lattice.hpp"

#include <cmath>

namespace diffuse::lab {
namespace {

/// z / (e^z - 1)
double bernoulli(double z) { return std::abs(z) < 1e-12 ? 1 - z / 2 : z / std::expm1(z); }

/// How many eigenvalues of the symmetric matrix with this diagonal and these squared neighbours are below x.
size_t count_below(const std::vector<double>& diagonal, const std::vector<double>& squares, double x) {
    size_t count = 0;
    double pivot = 1;
    for (size_t i = 0; i < diagonal.size(); ++i) {
        pivot = diagonal[i] - x - (i == 0 ? 0 : squares[i - 1] / pivot);
        if (pivot == 0) pivot = 1e-300;
        count += pivot < 0;
    }
    return count;
}

}  // namespace

Tridiagonal Tridiagonal::transposed() const {
    Tridiagonal result = *this;
    for (size_t i = 0; i + 1 < size(); ++i) {
        result.upper[i] = lower[i + 1];
        result.lower[i + 1] = upper[i];
    }
    return result;
}

Tridiagonal Tridiagonal::one_plus(double factor) const {
    Tridiagonal result = *this;
    for (size_t i = 0; i < size(); ++i) {
        result.lower[i] *= factor, result.upper[i] *= factor;
        result.diagonal[i] = 1 + factor * diagonal[i];
    }
    return result;
}

std::vector<double> Tridiagonal::times(const std::vector<double>& x) const {
    std::vector<double> y(size());
    for (size_t i = 0; i < size(); ++i) {
        y[i] = diagonal[i] * x[i] + (i > 0 ? lower[i] * x[i - 1] : 0) + (i + 1 < size() ? upper[i] * x[i + 1] : 0);
    }
    return y;
}

std::vector<double> Tridiagonal::solve(const std::vector<double>& x) const {
    std::vector<double> ratio(size()), y = x;
    double pivot = diagonal[0];
    y[0] /= pivot;
    for (size_t i = 1; i < size(); ++i) {
        ratio[i] = upper[i - 1] / pivot;
        pivot = diagonal[i] - lower[i] * ratio[i];
        y[i] = (y[i] - lower[i] * y[i - 1]) / pivot;
    }
    for (size_t i = size() - 1; i > 0; --i) y[i - 1] -= ratio[i] * y[i];
    return y;
}

void Tridiagonal::hold(size_t row) { lower[row] = upper[row] = 0, diagonal[row] = 1; }

torch::Tensor Tridiagonal::dense() const {
    const auto n = int64_t(size());
    auto matrix = torch::zeros({n, n}, torch::kFloat64);
    auto at = matrix.accessor<double, 2>();
    for (int64_t i = 0; i < n; ++i) {
        at[i][i] = diagonal[size_t(i)];
        if (i > 0) at[i][i - 1] = lower[size_t(i)];
        if (i + 1 < n) at[i][i + 1] = upper[size_t(i)];
    }
    return matrix;
}

size_t Lattice::node_at(double place) const { return size_t(std::lround((place - x.front()) / h)); }

std::vector<double> Lattice::spike(double place, double mass) const {
    std::vector<double> p(x.size(), 0);
    p[node_at(place)] = mass;
    return p;
}

Lattice make_lattice(const std::function<double(double)>& potential, double diffusion, double low, double high,
                     int64_t nodes, Scheme scheme) {
    Lattice lattice;
    lattice.h = (high - low) / double(nodes - 1);
    for (int64_t i = 0; i < nodes; ++i) lattice.x.push_back(low + double(i) * lattice.h);
    auto& [lower, diagonal, upper] = lattice.generator;
    lower.assign(size_t(nodes), 0), diagonal = upper = lower;
    const double rate = diffusion / (lattice.h * lattice.h);
    for (size_t i = 0; i + 1 < size_t(nodes); ++i) {
        const double z = (potential(lattice.x[i + 1]) - potential(lattice.x[i])) / diffusion;
        const bool central = scheme == Scheme::kCentral;
        const double up = rate * (central ? 1 - z / 2 : bernoulli(z)),
                     down = rate * (central ? 1 + z / 2 : bernoulli(-z));
        lower[i + 1] = up, upper[i] = down;
        diagonal[i] -= up, diagonal[i + 1] -= down;
    }
    return lattice;
}

std::vector<double> evolve(const Tridiagonal& generator, std::vector<double> p, double dt, int64_t steps,
                           double theta) {
    const auto implicit = generator.one_plus(-theta * dt), explicit_part = generator.one_plus((1 - theta) * dt);
    for (int64_t i = 0; i < steps; ++i) p = implicit.solve(theta == 1 ? p : explicit_part.times(p));
    return p;
}

double decay_rate(const Lattice& lattice, size_t k) {
    const auto& [lower, diagonal, upper] = lattice.generator;
    std::vector<double> minus, squares;
    double high = 0;
    for (size_t i = 0; i < diagonal.size(); ++i) {
        minus.push_back(-diagonal[i]);
        if (i + 1 < diagonal.size()) squares.push_back(upper[i] * lower[i + 1]);
        high = std::max(high, -2 * diagonal[i]);
    }
    double low = -1;
    for (int i = 0; i < 200 && high - low > 1e-14 * (1 + std::abs(high)); ++i) {
        const double middle = (low + high) / 2;
        (count_below(minus, squares, middle) > k ? high : low) = middle;
    }
    return (low + high) / 2;
}

std::vector<double> boltzmann(const Lattice& lattice, const std::function<double(double)>& potential,
                              double diffusion) {
    std::vector<double> p;
    double sum = 0;
    for (const double x : lattice.x) p.push_back(std::exp(-potential(x) / diffusion)), sum += p.back() * lattice.h;
    for (auto& one : p) one /= sum;
    return p;
}

}  // namespace diffuse::lab
