#include "diffuse/train/replicas.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>

namespace diffuse {

Replicas::Replicas(const std::function<Net()>& make, const std::function<Parameters(const Net&)>& parameters,
                   const torch::Tensor& weights, int64_t batch_size)
    : batch_size_(batch_size),
      part_size_(batch_size),
      parts_(1),
      losses_(torch::empty({batch_size}, weights.options())) {
    int64_t threads = 1;
    do {
        Net network = make();
        view_parameters(parameters(network), weights);
        if (weights.is_cpu() && idle_.empty()) {
            part_size_ = std::min(network.part_size(), batch_size);
            parts_ = (batch_size + part_size_ - 1) / part_size_;
            threads = std::min<int64_t>(at::get_num_threads(), parts_);
            workers_ = std::make_unique<Workers>(threads);
        }
        idle_.push_back({network, flatten_gradients(parameters(network))});
    } while (std::ssize(idle_) < threads);
}

Replicas::Result Replicas::run(const PartLoss& part_loss) {
    const ForEach each = [this](int64_t count, const auto& work) { for_each(count, work); };
    packed_ = idle_.front().network.packed(/*backward=*/true, each);
    if (parts_ > 1 && sum_.defined()) spare_.push_back(sum_);
    for_each(parts_, [&](int64_t part) { run_part(part, part_loss); });
    return {losses_, sum_};
}

void Replicas::for_each(int64_t count, const std::function<void(int64_t)>& work) {
    workers_ ? workers_->for_each(count, work) : one_by_one(count, work);
}

void Replicas::run_part(int64_t part, const PartLoss& part_loss) {
    Replica replica = take_replica();
    const int64_t first = part * part_size_, count = std::min(part_size_, batch_size_ - first);
    Net network = replica.network.with_packs_of(*packed_);
    const auto found = part_loss(network, first, count);
    replica.gradient.zero_();
    (found.sum() / double(batch_size_)).backward();
    const torch::NoGradGuard no_grad;
    losses_.narrow(0, first, count).copy_(found);
    auto gradient = parts_ > 1 ? exchanged(replica) : replica.gradient;
    give_back(std::move(replica));
    add_up(part, std::move(gradient));
}

Replicas::Replica Replicas::take_replica() {
    const std::lock_guard lock(mutex_);
    Replica replica = std::move(idle_.back());
    idle_.pop_back();
    return replica;
}

void Replicas::give_back(Replica replica) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(replica));
}

/// The gradient of a replica, which gets other memory for the next one: its weights' gradients are views of that, and
/// move with it.
torch::Tensor Replicas::exchanged(const Replica& replica) {
    torch::Tensor result;
    {
        const std::lock_guard lock(mutex_);
        if (!spare_.empty()) result = spare_.back(), spare_.pop_back();
    }
    if (!result.defined()) result = torch::empty_like(replica.gradient);
    auto one = replica.gradient.storage(), other = result.storage();
    one.set_data_ptr(other.set_data_ptr(one.set_data_ptr({})));
    return result;
}

/// Of two halves of the tree, whichever ends last adds the right one to the left one, and goes on as their sum. Nodes
/// are numbered as in a heap: those at 2 k and 2 k + 1 make up the one at k.
void Replicas::add_up(int64_t part, torch::Tensor gradient) {
    const int64_t leaves = int64_t(std::bit_ceil(uint64_t(parts_)));
    for (int64_t node = leaves + part, size = 1; node > 1; node /= 2, size *= 2) {
        const int64_t other = node ^ 1;
        if (other * size - leaves >= parts_) continue;  // no part lies there
        torch::Tensor sum;
        {
            const std::lock_guard lock(mutex_);
            const auto found = waiting_.find(other);
            if (found == waiting_.end()) return void(waiting_.emplace(node, gradient));
            sum = found->second;
            waiting_.erase(found);
        }
        if (other < node) std::swap(gradient, sum);
        gradient.add_(sum);
        const std::lock_guard lock(mutex_);
        spare_.push_back(sum);
    }
    sum_ = gradient;
}

}  // namespace diffuse
