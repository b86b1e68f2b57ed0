#pragma once

#include "nets/layers.hpp"
#include "nets/program.hpp"

namespace diffuse {

/// A feature map of a program.
struct RecordedMap {
    Value value;
    int64_t channels = 0, height = 0, width = 0;
    int64_t pixels() const { return height * width; }
};

/// Records the layers of a network (layers.hpp) as steps of a program, with their ways back. Channels of maps in
/// multiples of 16, but for those of the input and the output.
class Recorder {
public:
    using Map = RecordedMap;
    explicit Recorder(Program& program) : program_(program) {}

    Map input(int64_t channels, int64_t height, int64_t width);
    /// silu(time2(silu(time1(time's embedding))) + label's row), which the blocks are scaled and shifted by.
    void embed(const nn::Linear& time1, const nn::Linear& time2, const nn::Embedding& label);

    Map convolved(const Conv3x3& layer, const Map& x, bool upsample = false);
    Map convolved(const nn::GroupNorm& norm, const Conv3x3& layer, const Map& x);
    Map halved(const nn::Conv2d& layer, const Map& x);
    Map positioned(const nn::Embedding& table, const Map& x);
    Map block(const ResBlock& layer, const Map& x, const Map& skip);
    Map attended(const Attention& layer, const Map& x);

private:
    struct Read;
    Map new_map(int64_t channels, int64_t height, int64_t width);
    Map convolve(const Read& read, const Conv3x3& layer, const Map& residual);
    /// A linear layer's weights, or those of a convolution that is one.
    struct Dense {
        torch::Tensor weight, bias;
        int64_t in, out, packed;
    };
    Dense dense(const torch::Tensor& weight, const torch::Tensor& bias);
    Value film(const nn::Linear& layer);
    void add_shortcut(const nn::Conv2d& layer, const Map& x, const Map& skip, const Map& y);

    Program& program_;
    Value embedding_;
};

}  // namespace diffuse
