#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/diffusion/example_shape.hpp"
#include "diffuse/nets/mlp.hpp"
#include "diffuse/nets/unet.hpp"

namespace diffuse {

struct NetOptions {
    std::string kind = "unet";
    UNetOptions unet;
    MlpOptions mlp;
    std::optional<int64_t> classes;  ///< that examples may be said to be of; none: as the data have, not yet known
};
Fields fields(NetOptions& options);

/// A network of any kind: what trains, resumes, samples and encodes one does so with all.
class Net {
public:
    Net(UNet net) : net_(std::move(net)) {}  // NOLINT: each is one
    Net(Mlp net) : net_(std::move(net)) {}   // NOLINT

    torch::Tensor operator()(const NetworkInput& input) const;
    NamedTensors named_parameters() const;
    std::vector<torch::Tensor> parameters() const;
    int64_t parameter_count() const;
    /// Whether an optimizer may take a weight for the matrix [out, in, ...] of a linear map between hidden layers.
    bool is_matrix(const std::string& name, const torch::Tensor& weight) const;
    void set_training(bool training);
    void freeze();
    void seed_dropout(uint64_t seed);

private:
    std::variant<UNet, Mlp> net_;
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
