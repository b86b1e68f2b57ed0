#include "diffuse/ops/muon.hpp"

namespace diffuse {
namespace {

using torch::Tensor;

constexpr int kSteps = 5;
constexpr double kLinear = 3.4445, kCubic = -4.7750, kQuintic = 2.0315;
constexpr double kMinNorm = 1e-15;  ///< its square is still a normal float32

/// The polynomial q of a symmetric matrix with p(X) = q(X X^T) X, from X X^T divided by |X|^2. An odd polynomial of X
/// is X times one of its square: X <- q X makes gram <- q gram q, and all of these commute, so that X itself, often
/// much wider than high, is not needed on the way.
Tensor newton_schulz(Tensor gram) {
    const auto identity = torch::eye(gram.size(1), gram.options());
    Tensor product;
    for (int step = 0; step < kSteps; ++step) {
        const auto q = torch::baddbmm(kLinear * identity + kCubic * gram, gram, gram, /*beta=*/1, /*alpha=*/kQuintic);
        product = product.defined() ? q.bmm(product) : q;
        if (step + 1 < kSteps) gram = q.bmm(gram).bmm(q);
    }
    return product;
}

}  // namespace

Tensor orthogonalised(const Tensor& matrices) {
    const auto norm = matrices.flatten(1).norm(2, 1).clamp_min(kMinNorm).view({-1, 1, 1});
    const auto x = matrices / norm, transposed = x.transpose(1, 2);
    const bool wide = x.size(1) <= x.size(2);
    return wide ? newton_schulz(x.bmm(transposed)).bmm(x) : x.bmm(newton_schulz(transposed.bmm(x)));
}

}  // namespace diffuse
