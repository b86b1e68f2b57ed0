#pragma once

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Nearly the orthogonal matrix closest to each of several: U p(S) V^T of the singular value decomposition U S V^T,
/// where p takes each singular value, as a share of the matrix's Frobenius norm, to about 1 (0.7 to 1.2, but for those
/// below a few thousandths). p is five steps of x <- 3.4445 x - 4.7750 x^3 + 2.0315 x^5, a Newton-Schulz iteration
/// (Jordan 2024, https://kellerjordan.github.io/posts/muon). Zero stays zero.
/// matrices: float [k, m, n] -> the same
torch::Tensor orthogonalised(const torch::Tensor& matrices);

}  // namespace diffuse
