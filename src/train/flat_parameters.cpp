#include "diffuse/train/flat_parameters.hpp"

namespace diffuse {
namespace {

/// The part of `flat` that begins at `offset`, shaped like `like`; 4-D on a CPU in channels-last order, as unet.hpp
/// says.
torch::Tensor view_like(const torch::Tensor& flat, int64_t offset, const torch::Tensor& like) {
    const auto part = flat.narrow(0, offset, like.numel());
    if (like.dim() != 4 || !like.is_cpu()) return part.view(like.sizes());
    return part.view({like.size(0), like.size(2), like.size(3), like.size(1)}).permute({0, 3, 1, 2});
}

torch::Tensor zeros_for(const Parameters& parameters) {
    int64_t count = 0;
    for (const auto& parameter : parameters) count += parameter.numel();
    return torch::zeros({count}, parameters.front().options().requires_grad(false));
}

}  // namespace

torch::Tensor flatten_parameters(Parameters parameters) {
    const torch::NoGradGuard no_grad;
    const auto flat = zeros_for(parameters);
    const auto views = views_of(flat, parameters);
    for (size_t i = 0; i < views.size(); ++i) views[i].copy_(parameters[i]);
    view_parameters(parameters, flat);
    return flat;
}

torch::Tensor flatten_gradients(Parameters parameters) {
    const auto flat = zeros_for(parameters);
    const auto views = views_of(flat, parameters);
    for (size_t i = 0; i < views.size(); ++i) parameters[i].mutable_grad() = views[i];
    return flat;
}

Parameters views_of(const torch::Tensor& flat, const Parameters& parameters) {
    Parameters views;
    int64_t offset = 0;
    for (const auto& parameter : parameters) {
        views.push_back(view_like(flat, offset, parameter));
        offset += parameter.numel();
    }
    return views;
}

NamedTensors named_views(const torch::Tensor& flat, const NamedTensors& like) {
    NamedTensors result;
    int64_t offset = 0;
    for (const auto& [name, tensor] : like) {
        result.emplace_back(name, view_like(flat, offset, tensor));
        offset += tensor.numel();
    }
    return result;
}

void view_parameters(Parameters parameters, const torch::Tensor& flat) {
    const auto views = views_of(flat, parameters);
    for (size_t i = 0; i < views.size(); ++i) parameters[i].set_data(views[i]);
}

}  // namespace diffuse
