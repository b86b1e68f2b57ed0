"""The numbers of the double well V = (x^2 - 1)^2, dX = -V' dt + sigma dW, that src/lab/fokker_planck.cpp expects, by
methods that it does not use: Hermite functions for the rates of decay, Gauss-Legendre quadrature for the rest.

    python3 tests/golden/double_well.py        (numpy 2.2.6)
"""
import numpy as np


def quadrature(f, low, high, points=400):
    x, w = np.polynomial.legendre.leggauss(points)
    x, w = low + (high - low) * (x + 1) / 2, w * (high - low) / 2
    return w @ f(x)


def rates(sigma, size=160):
    """Of H = -D d2/dx2 + V'^2 / (4 D) - V'' / 2, which has the eigenvalues of the generator's negative."""
    D, scale = sigma**2 / 2, 0.35
    step = np.sqrt(np.arange(1, size + 8))
    x = scale * (np.diag(step, 1) + np.diag(step, -1)) / np.sqrt(2)
    d = (np.diag(step, 1) - np.diag(step, -1)) / np.sqrt(2) / scale
    x2 = x @ x
    slope, bend = 4 * (x2 @ x - x), 12 * x2 - 4 * np.eye(len(x))
    h = -D * d @ d + slope @ slope / (4 * D) - bend / 2
    return np.linalg.eigvalsh((h + h.T)[:size, :size] / 2)[:3]


def passage_time(sigma):
    D = sigma**2 / 2
    inner = lambda y: quadrature(lambda z: np.exp(-(z**2 - 1)**2 / D), -4, y)
    x, w = np.polynomial.legendre.leggauss(200)
    y = (x - 1) / 2
    return w / 2 @ [np.exp((at**2 - 1)**2 / D) * inner(at) for at in y] / D


for sigma in (0.5, 0.7, 1.0):
    density = lambda x: np.exp(-2 * (x**2 - 1)**2 / sigma**2)
    Z = quadrature(density, -4, 4)
    print(f"sigma {sigma}: Z {Z:.6f}, <x^2> {quadrature(lambda x: x**2 * density(x), -4, 4) / Z:.6f}, "
          f"rates {np.array2string(rates(sigma), precision=7)}, passage time {passage_time(sigma):.5f}")
