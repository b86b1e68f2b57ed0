#include "diffuse/train/replicas.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace diffuse {
namespace {

int64_t part_count(int64_t batch_size, int64_t part_size) { return (batch_size + part_size - 1) / part_size; }

}  // namespace

Replicas::Replicas(const std::function<Net()>& make, const std::function<Parameters(const Net&)>& parameters,
                   const torch::Tensor& weights, int64_t batch_size)
    : batch_size_(batch_size),
      part_size_(batch_size),
      parts_(1),
      gradient_size_(weights.numel()),
      losses_(torch::empty({batch_size}, weights.options())) {
    if (!weights.is_cpu()) {
        part_size_ = (batch_size + processes::count() - 1) / processes::count();
        parts_ = part_count(batch_size, part_size_);
    }
    int64_t threads = 1;
    do {
        Net network = make();
        view_parameters(parameters(network), weights);
        if (weights.is_cpu() && idle_.empty()) {
            part_size_ = std::min(network.part_size(), batch_size);
            parts_ = part_count(batch_size, part_size_);
            require_parts(network, batch_size);
            threads = std::clamp<int64_t>(own_parts().end - own_parts().first, 1, at::get_num_threads());
            workers_ = std::make_unique<Workers>(threads);
        }
        idle_.push_back({network, flatten_gradients(parameters(network))});
    } while (std::ssize(idle_) < threads);
}

Replicas::Result Replicas::run(const PartLoss& part_loss) {
    const ForEach each = [this](int64_t count, const auto& work) { for_each(count, work); };
    packed_ = idle_.front().network.packed(/*backward=*/true, each);
    if (parts_ > 1 && sum_.defined()) spare_.push_back(sum_);
    const auto [first, end] = own_parts();
    for_each(end - first, [&](int64_t i) { run_part(first + i, part_loss); });
    if (processes::count() > 1) add_up_processes();
    return {losses_, sum_};
}

void Replicas::require_parts(const Net& network, int64_t batch_size) {
    const int64_t size = std::min(network.part_size(), batch_size), parts = part_count(batch_size, size);
    if (parts >= processes::count()) return;
    throw Error(fmt::format("train.batch_size {} has {} parts of {}, too few for {} processes", batch_size, parts, size,
                            processes::count()));
}

/// The parts of this process.
processes::Share Replicas::own_parts() const { return processes::share_of(parts_, processes::rank()); }

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

/// Room for a gradient.
torch::Tensor Replicas::memory() {
    const std::lock_guard lock(mutex_);
    if (spare_.empty()) return torch::empty({gradient_size_}, losses_.options());
    const auto result = spare_.back();
    spare_.pop_back();
    return result;
}

/// The gradient of a replica, which gets other memory for the next one: its weights' gradients are views of that, and
/// move with it.
torch::Tensor Replicas::exchanged(const Replica& replica) {
    const auto result = memory();
    auto one = replica.gradient.storage(), other = result.storage();
    one.set_data_ptr(other.set_data_ptr(one.set_data_ptr({})));
    return result;
}

/// Of two halves of the tree, whichever ends last adds the right one to the left one, and goes on as their sum. Nodes
/// are numbered as in a heap: those at 2 k and 2 k + 1 make up the one at k.
void Replicas::add_up(int64_t part, torch::Tensor gradient) {
    for (int64_t node = leaves() + part; node > 1; node /= 2) {
        const int64_t other = node ^ 1;
        if (!has_parts(other)) continue;
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

/// The number of the tree's first leaf, and of its leaves.
int64_t Replicas::leaves() const { return int64_t(std::bit_ceil(uint64_t(parts_))); }

/// The first part below a node.
int64_t Replicas::first_part(int64_t node) const {
    while (node < leaves()) node *= 2;
    return node - leaves();
}

/// The process that has a part.
int64_t Replicas::owner_of(int64_t part) const {
    int64_t rank = 0;
    while (processes::share_of(parts_, rank).end <= part) ++rank;
    return rank;
}

/// The sum of the parts below a node, at the process that has the first of them; elsewhere undefined. A process knows
/// the sums of its own parts as far as they go without those of others.
torch::Tensor Replicas::sum_at(int64_t node) {
    if (const auto own = waiting_.find(node); own != waiting_.end()) {
        const auto sum = own->second;
        waiting_.erase(own);
        return sum;
    }
    const int64_t left = 2 * node, right = left + 1;
    if (node >= leaves()) return {};  // a part of another process
    const auto sum = sum_at(left);
    if (!has_parts(right)) return sum;
    const auto other = sum_at(right);
    const int64_t to = owner_of(first_part(left)), from = owner_of(first_part(right)), self = processes::rank();
    if (self == from && self != to) processes::send(other, to), spare_.push_back(other);
    if (self != to) return {};
    const auto added = from == to ? other : memory();
    if (from != to) processes::receive(added, from);
    spare_.push_back(added);
    return sum.add_(added);
}

/// What the parts of one process wait for, from the others; then all have the losses and the sum.
void Replicas::add_up_processes() {
    processes::agree();  // where one failed, the others are told before they wait for its gradients
    constexpr int64_t kRoot = 1;
    sum_ = sum_at(kRoot);
    if (!sum_.defined()) sum_ = memory();
    processes::copy_of_first(sum_);
    processes::complete(losses_, part_size_);
}

}  // namespace diffuse
