#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "diffuse/base/parallel.hpp"
#include "diffuse/nets/net.hpp"
#include "diffuse/train/flat_parameters.hpp"

namespace diffuse {

/// Several networks that share their weights and work on parts of a batch at the same time, each on a core of its own:
/// faster than sharing out every layer, and a busy neighbour does not stall the others. On a GPU there is one.
class Replicas {
public:
    /// `make` makes a network like the one that the flat vector `weights` is of, and `parameters` lists its weights in
    /// the vector's order. As many parts as LibTorch has threads, but none of fewer than 8 examples.
    Replicas(const std::function<Net()>& make, const std::function<Parameters(const Net&)>& parameters,
             const torch::Tensor& weights, int64_t batch_size);

    /// Losses of the examples first .. first + count - 1 of a batch, [count].
    using PartLoss = std::function<torch::Tensor(Net& network, int64_t first, int64_t count)>;
    /// Losses of the whole batch, [batch_size], and the gradient of their mean, a flat vector. They are good until the
    /// next call.
    struct Result {
        torch::Tensor losses, gradient;
    };
    Result run(const PartLoss& part_loss);

    /// Other work for the same threads (ForEach); on a GPU one after the other on this thread.
    void for_each(int64_t count, const std::function<void(int64_t)>& work);

private:
    struct Replica {
        Net network;
        torch::Tensor gradient, losses;
    };
    void run_part(size_t i, const PartLoss& part_loss);

    int64_t batch_size_;
    std::vector<Replica> replicas_;
    std::unique_ptr<Workers> workers_;  // on the CPU, a thread for each
};

}  // namespace diffuse
