#pragma once

#include <string>
#include <vector>

#include "diffuse/schedule.hpp"

namespace diffuse {

/// The noise levels a solver walks, first to last. Sampling goes from t = T down to t = 0; encoding walks the same
/// levels up.
using Grid = std::vector<NoiseLevel>;

/// `steps` + 1 levels from T to 0, all different.
/// At whole t: uniform (trailing is the same; Lin et al. 2024, arXiv:2305.08891, section 3.3): t_i = T (1 - i/steps).
/// quadratic: t_i = T (1 - i/steps)^2, finer towards the data (Song et al. 2021, arXiv:2010.02502, appendix D.2).
/// Between T and 1, before the last step to 0: log-snr: at equal distances in log-SNR (Lu et al. 2022,
/// arXiv:2206.00927, section 3.4). karras: at equal distances in r^(1/7), r = sigma / alpha (Karras et al. 2022,
/// arXiv:2206.00364, eq. 5). Throws Error for an unknown spacing, or when steps is not in 1 .. T.
Grid make_grid(const Schedule& schedule, const std::string& spacing, int64_t steps);
std::vector<std::string> spacing_names();

/// The same levels in the opposite order.
Grid reversed(Grid grid);

}  // namespace diffuse
