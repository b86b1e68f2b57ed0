#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/diffusion/example_shape.hpp"
#include "diffuse/diffusion/network.hpp"
#include "diffuse/nets/mlp.hpp"
#include "diffuse/nets/parameters.hpp"
#include "diffuse/nets/unet.hpp"

namespace diffuse {

struct Packs;

struct NetOptions {
    std::string kind = "unet";
    UNetOptions unet;
    MlpOptions mlp;
    std::optional<int64_t> classes;  ///< that examples may be said to be of; none: as the data have, not yet known
};
Fields fields(NetOptions& options);

/// A network of any kind: what trains, resumes, samples and encodes one does so with all. Copies share their weights;
/// several threads may call at once.
class Net {
public:
    struct Modules;  ///< the layers of a kind, and the way through them (layers.hpp)
    explicit Net(std::shared_ptr<Modules> modules) : modules_(std::move(modules)) {}

    torch::Tensor operator()(const NetworkInput& input) const;
    /// The weights by name; assigning through them changes the network.
    NamedTensors named_parameters() const;
    std::vector<torch::Tensor> parameters() const;
    int64_t parameter_count() const;
    /// Whether an optimizer may take a weight for the matrix [out, in, ...] of a linear map between hidden layers.
    bool is_matrix(const std::string& name, const torch::Tensor& weight) const;
    /// Dropout is only active in training mode, which is how a new network starts.
    void set_training(bool training);
    /// The same network, with what its calls compute from the weights computed already: good as long as these stay as
    /// they are. backward: for gradients too.
    Net packed(bool backward, const ForEach& for_each = one_by_one) const;
    /// The same network, as `packed` as another one of its kind with the same weights.
    Net with_packs_of(const Net& other) const;
    /// Examples of a part of a batch that one core works on: enough that what a call costs in itself is little, and few
    /// enough that many cores have parts.
    int64_t part_size() const;
    /// The weights will not change any more: they get no gradients, and this is `packed`.
    void freeze();
    /// The next masks of dropout are a function of `seed`.
    void seed_dropout(uint64_t seed);

private:
    std::shared_ptr<Modules> modules_;
    std::shared_ptr<const Packs> packs_;
};

/// What a network's condition is: one of so many classes, or none of them, or else so many numbers.
struct ConditionSizes {
    int64_t classes = 0, numbers = 0;
};

/// With random initial weights, a function of `seed`. Throws Error naming the config key when the sizes do not fit the
/// examples, and for points with a U-Net.
Net make_net(const NetOptions& options, const ExampleShape& shape, const ConditionSizes& condition, uint64_t seed,
             torch::Device device);

}  // namespace diffuse
