#pragma once

#include <functional>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// What a network knows of each of N examples beside their noisy versions. What is undefined is absent.
struct Condition {
    torch::Tensor classes = {};  ///< int64 [N]: 0 .. K - 1, or K for an example of no class
    torch::Tensor numbers = {};  ///< float32 [N, M], standardised
    bool defined() const { return classes.defined() || numbers.defined(); }
    /// N; 0 where nothing is defined.
    int64_t size() const;
    /// Those of the examples at these indices, int64 [L].
    Condition rows(const torch::Tensor& index) const;
    /// On another device.
    Condition to(torch::Device device) const;
    /// With each of its tensors as `change` makes it.
    Condition each(const std::function<torch::Tensor(const torch::Tensor&)>& change) const;
};

/// Those of examples first .. first + group - 1, beyond the last one that one again (`group_of` tensors).
Condition group_of(const Condition& all, int64_t first, int64_t group);

}  // namespace diffuse
