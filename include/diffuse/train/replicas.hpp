#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "diffuse/base/parallel.hpp"
#include "diffuse/base/processes.hpp"
#include "diffuse/nets/net.hpp"
#include "diffuse/train/flat_parameters.hpp"

namespace diffuse {

/// Several networks that share their weights and work on parts of a batch at the same time, each on a core of its own:
/// faster than sharing out every layer, and a busy neighbour does not stall the others. The parts are always the same,
/// and their gradients are added up in one binary tree over their numbers: the result does not depend on how many
/// threads there are, nor on how many processes, each of which has a share of the parts. On a GPU there is one network,
/// and a process's share of the batch is one part: there the last digits depend on the number of processes.
class Replicas {
public:
    /// `make` makes a network like the one that the flat vector `weights` is of, and `parameters` lists its weights in
    /// the vector's order.
    Replicas(const std::function<Net()>& make, const std::function<Parameters(const Net&)>& parameters,
             const torch::Tensor& weights, int64_t batch_size);

    /// Throws Error where a batch on the CPU has fewer parts than there are processes.
    static void require_parts(const Net& network, int64_t batch_size);

    /// Losses of the examples first .. first + count - 1 of a batch, [count].
    using PartLoss = std::function<torch::Tensor(Net& network, int64_t first, int64_t count)>;
    /// Losses of the whole batch, [batch_size], and the gradient of their mean, a flat vector. They are good until the
    /// next call. All processes call this, and get the same.
    struct Result {
        torch::Tensor losses, gradient;
    };
    Result run(const PartLoss& part_loss);

    /// Other work for the same threads (ForEach); on a GPU one after the other on this thread.
    void for_each(int64_t count, const std::function<void(int64_t)>& work);

private:
    struct Replica {
        Net network;
        torch::Tensor gradient;
    };
    processes::Share own_parts() const;
    torch::Tensor memory();
    void run_part(int64_t part, const PartLoss& part_loss);
    Replica take_replica();
    void give_back(Replica replica);
    torch::Tensor exchanged(const Replica& replica);
    void add_up(int64_t part, torch::Tensor gradient);
    void add_up_processes();
    torch::Tensor sum_at(int64_t node);
    bool has_parts(int64_t node) const { return first_part(node) < parts_; }
    int64_t leaves() const;
    int64_t first_part(int64_t node) const;
    int64_t owner_of(int64_t part) const;

    int64_t batch_size_, part_size_, parts_, gradient_size_;
    std::unique_ptr<Workers> workers_;          // on the CPU
    std::optional<Net> packed_;                 // of the weights in this step
    torch::Tensor losses_, sum_;                // of the whole batch
    std::mutex mutex_;                          // of what follows
    std::vector<Replica> idle_;                 // a network for each thread
    std::vector<torch::Tensor> spare_;          // memory for gradients
    std::map<int64_t, torch::Tensor> waiting_;  // sums of parts, by number in the tree, whose neighbours are at work
};

}  // namespace diffuse
