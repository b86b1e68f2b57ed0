#pragma once

#include <functional>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse::lab {

/// A matrix with three diagonals; lower[0] and upper[n - 1] are not used.
struct Tridiagonal {
    std::vector<double> lower, diagonal, upper;

    size_t size() const { return diagonal.size(); }
    Tridiagonal transposed() const;
    /// 1 + factor times this.
    Tridiagonal one_plus(double factor) const;
    std::vector<double> times(const std::vector<double>& x) const;
    /// The y with this times y = x (Thomas's algorithm).
    std::vector<double> solve(const std::vector<double>& x) const;
    /// Makes a row that of the identity, so that the value there is given.
    void hold(size_t row);
    torch::Tensor dense() const;  ///< float64 [n, n]
};

/// A particle in a potential V, dX = -V' dt + sqrt(2 D) dW, as jumps between nodes at equal distances, whose ends are
/// closed.
struct Lattice {
    std::vector<double> x;
    double h = 0;
    /// dp/dt = generator p: the Fokker-Planck equation; its transpose is the backward equation's.
    Tridiagonal generator;

    size_t node_at(double place) const;  ///< the nearest
    /// Nothing but this mass at the node nearest to a place.
    std::vector<double> spike(double place, double mass = 1) const;
};

/// chang_cooper: rates D / h^2 B(+-dV / D), B(z) = z / (e^z - 1) (Chang & Cooper 1970, J. Comput. Phys. 6, 1;
/// Scharfetter & Gummel 1969): positive, and exp(-V / D) at the nodes is stationary, exactly, for any h. central:
/// differences of second order, whose rates are negative where |V'| h > 2 D.
enum class Scheme { kChangCooper, kCentral };
Lattice make_lattice(const std::function<double(double)>& potential, double diffusion, double low, double high,
                     int64_t nodes, Scheme scheme = Scheme::kChangCooper);

/// p after `steps` times dt: (1 - theta dt A) p' = (1 + (1 - theta) dt A) p, A the generator, or of the backward
/// equation its transpose. theta = 1: implicit Euler; 1/2: Crank-Nicolson.
std::vector<double> evolve(const Tridiagonal& generator, std::vector<double> p, double dt, int64_t steps, double theta);

/// The k-th eigenvalue of -generator, counted from 0 (which is the steady state's, 0), by bisection of Sturm's count.
double decay_rate(const Lattice& lattice, size_t k);

/// exp(-V / D) at the nodes, times a constant that makes its sum times h 1.
std::vector<double> boltzmann(const Lattice& lattice, const std::function<double(double)>& potential, double diffusion);

}  // namespace diffuse::lab
