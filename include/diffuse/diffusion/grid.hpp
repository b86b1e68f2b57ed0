#pragma once

#include <optional>
#include <string>
#include <vector>

#include "diffuse/diffusion/schedule.hpp"

namespace diffuse {

/// The noise levels a solver walks, first to last. Sampling goes from a high level down to t = 0; encoding walks the
/// same levels up.
using Grid = std::vector<NoiseLevel>;

/// The t at which grids begin, a whole number. x0 = (x - sigma eps) / alpha carries r = sigma / alpha times the error
/// of a network that predicts eps, so r must be moderate there: the schedule's end T where r is at most 200 (157 for
/// linear, so that DDPM's chain stays whole) or where it ends in pure noise on purpose (zero_terminal_snr), else the
/// last t with r at most 80 (the sigma_max of Karras et al. 2022, arXiv:2206.00364, table 1; 991 for cosine). Of
/// many levels, that one has an alpha of little more than 0.0125, and what sampling starts from, N(0, 1), is nearly
/// the distribution of noisy data; of fewer than a hundred, it may be lower. `max_ratio` says otherwise: the last t
/// with r at most so much. Throws Error when no level is so low.
int64_t grid_start(const Schedule& schedule, std::optional<double> max_ratio = {});

/// `steps` + 1 levels from the start S = grid_start(schedule, max_ratio) to 0, all different, spaced as a row of the
/// table in grid.cpp says; `shift` is for spacing flow.
/// Throws Error for an unknown spacing, when steps is not in 1 .. S, or where levels would fall together.
Grid make_grid(const Schedule& schedule, const std::string& spacing, int64_t steps,
               std::optional<double> max_ratio = {}, double shift = 1);

/// So many steps, or as many as such a grid can have, where that is fewer. Throws Error for an unknown spacing.
int64_t most_steps(const Schedule& schedule, const std::string& spacing, int64_t wanted,
                   std::optional<double> max_ratio = {}, double shift = 1);

/// `steps` + 1 levels from t = 1 up to `grid_start`, at equal distances in log-SNR, for the ODE's likelihood. Only
/// t = 1 where grids begin there.
Grid likelihood_grid(const Schedule& schedule, int64_t steps, std::optional<double> max_ratio = {});

/// The factor between neighbouring noise levels of annealed Langevin dynamics on examples of so many numbers, by which
/// half of what one level draws is typical of the next: Phi(sqrt(2 D) (g - 1) + 3 g) - Phi(sqrt(2 D) (g - 1) - 3 g) =
/// 1/2 (NCSNv2: Song & Ermon 2020, arXiv:2006.09011, section 3.2); but at most 1.1. Of fewer than some 500 numbers the
/// rule asks for more, and of four or fewer for no end; but the steps at a level (langevin.cpp) keep a share of the
/// excess that the variance came with, which the factor multiplies again: at 1.1 it ends 11% too large, at 1.2 24%.
double ncsn_factor(int64_t dimensions);
/// How many levels lead from one ratio sigma / alpha to another, both counted, at factors nearest to that one.
int64_t ncsn_levels(int64_t dimensions, double first_ratio, double last_ratio);

std::vector<std::string> spacing_names();

/// The same levels, each normalised (level.hpp).
Grid normalised(Grid grid);

/// The same levels in the opposite order.
Grid reversed(Grid grid);

}  // namespace diffuse
