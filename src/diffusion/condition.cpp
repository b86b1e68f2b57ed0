#include "diffuse/diffusion/condition.hpp"

#include "diffuse/base/device.hpp"
#include "diffuse/base/parallel.hpp"

namespace diffuse {

int64_t Condition::size() const {
    return classes.defined() ? classes.size(0) : numbers.defined() ? numbers.size(0) : 0;
}

Condition Condition::each(const std::function<torch::Tensor(const torch::Tensor&)>& change) const {
    const auto changed = [&](const torch::Tensor& tensor) { return tensor.defined() ? change(tensor) : tensor; };
    return {changed(classes), changed(numbers)};
}

Condition Condition::rows(const torch::Tensor& index) const {
    return each([&](const torch::Tensor& all) { return all.index_select(0, index); });
}

Condition Condition::to(torch::Device device) const {
    return each([&](const torch::Tensor& all) { return to_device(all, device); });
}

Condition group_of(const Condition& all, int64_t first, int64_t group) {
    return all.each([&](const torch::Tensor& tensor) { return group_of(tensor, first, group); });
}

}  // namespace diffuse
