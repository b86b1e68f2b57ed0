#include "diffuse/train/replicas.hpp"

#include <ATen/Parallel.h>

#include <algorithm>

namespace diffuse {

constexpr int64_t kMinExamples = 8;  ///< in a part

Replicas::Replicas(const std::function<Net()>& make, const std::function<Parameters(const Net&)>& parameters,
                   const torch::Tensor& weights, int64_t batch_size)
    : batch_size_(batch_size) {
    const bool on_cpu = weights.is_cpu();
    const int64_t max_parts = std::max<int64_t>(1, batch_size / kMinExamples);
    const int64_t parts = on_cpu ? std::min<int64_t>(at::get_num_threads(), max_parts) : 1;
    if (on_cpu) workers_ = std::make_unique<Workers>(parts);
    for (int64_t i = 0; i < parts; ++i) {
        Net network = make();
        view_parameters(parameters(network), weights);
        replicas_.push_back({network, flatten_gradients(parameters(network)), {}});
    }
}

Replicas::Result Replicas::run(const PartLoss& part_loss) {
    for_each(std::ssize(replicas_), [&](int64_t i) { run_part(size_t(i), part_loss); });
    const torch::NoGradGuard no_grad;
    const auto& gradient = replicas_.front().gradient;
    std::vector<torch::Tensor> losses;
    for (size_t i = 0; i < replicas_.size(); ++i) {
        if (i > 0) gradient.add_(replicas_[i].gradient);
        losses.push_back(replicas_[i].losses);
    }
    return {torch::cat(losses), gradient};
}

void Replicas::for_each(int64_t count, const std::function<void(int64_t)>& work) {
    workers_ ? workers_->for_each(count, work) : one_by_one(count, work);
}

void Replicas::run_part(size_t i, const PartLoss& part_loss) {
    auto& [network, gradient, losses] = replicas_[i];
    const int64_t parts = std::ssize(replicas_), index = int64_t(i);
    const int64_t first = batch_size_ * index / parts, count = batch_size_ * (index + 1) / parts - first;
    const auto found = part_loss(network, first, count);
    gradient.zero_();
    (found.sum() / double(batch_size_)).backward();
    losses = found.detach();
}

}  // namespace diffuse
