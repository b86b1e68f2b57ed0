#pragma once

#include "diffuse/diffusion/denoiser.hpp"

/// Guidance: denoisers made of denoisers, of which solvers know nothing.
namespace diffuse {

/// D_reference + scale (D_main - D_reference), in x0 and in eps alike, since both are linear in the output. Scale 1 is
/// `main` and scale 0 `reference`, bit for bit, and the other one is not evaluated. With the denoiser of a class and
/// that of none this is classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6, whose w is scale - 1);
/// with a worse network as reference it is autoguidance (Karras et al. 2024, arXiv:2406.02507, eq. 5). `rescale` (0 to
/// 1) is the share to which each example's x0 gets the standard deviation back that `main` gives it (Lin et al. 2023,
/// arXiv:2305.08891, eqs. 15 and 16, there for the network's output).
Denoiser guided(Denoiser main, Denoiser reference, double scale, double rescale = 0);

/// Dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487, section 2.3): each example's x0 is clamped to [-s, s]
/// and divided by s, where s is the `percentile` (0 to 100) of its |x0|, but at least 1; eps goes with it.
Denoiser thresholded(Denoiser denoiser, double percentile);

/// The noise levels sigma / alpha in (low, high] (Kynkaanniemi et al. 2024, arXiv:2404.07724, eq. 5).
struct RatioInterval {
    double low = 0, high = 0;
    /// Whether a whole step between two levels, in whichever direction, lies in it, by its noisier end: so ends of the
    /// interval fall on ends of steps, and no step of several evaluations has one of each kind.
    bool holds(const NoiseLevel& from, const NoiseLevel& to) const;
};

}  // namespace diffuse
