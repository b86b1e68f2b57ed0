#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "diffuse/base/parallel.hpp"
#include "diffuse/base/torch.hpp"
#include "diffuse/ops/plain.hpp"

namespace diffuse {

/// Numbers that steps of a program read and write: `size` of them for each image.
struct Value {
    int64_t id = -1, size = 0;
    bool defined() const { return id >= 0; }
};

/// The weights of a program as its products want them, on the ways forward and back (undefined: not packed).
struct Packs {
    torch::Tensor forward, backward;
};

class Run;

/// A network's ways forward and back as a list of steps on plain memory: neither LibTorch's operators nor its autograd
/// are between them, and what they need is allocated once. It is recorded once (recorder.hpp), for one network; several
/// threads may walk it at once. On a CPU, in float32.
class Program : public std::enable_shared_from_this<Program> {
public:
    using Work = std::function<void(Run&)>;
    /// Writes packed weights, for the way back or forward.
    using Pack = std::function<void(bool backward, float* packed)>;

    Value value(int64_t size);
    /// A step that uses these values. `backward` reads the gradients of what was written, and puts those of what was
    /// read where `Run::into` says.
    void record(const std::vector<Value>& used, Work forward, Work backward);
    /// A number by which the weights that `pack` writes are found.
    int64_t packed(int64_t forward_size, int64_t backward_size, Pack pack);
    /// Ends the recording: what comes in, what is asked for, and all the weights that the steps use.
    void finish(Value input, Value output, std::vector<torch::Tensor> weights);

    /// All weights packed, as they are now; the work is shared out by `for_each`.
    Packs pack(bool forward, bool backward, const ForEach& for_each) const;

    struct Input {
        torch::Tensor x;        ///< contiguous [N, ...], of the input's size each
        torch::Tensor time;     ///< float32 [N], or [1] for all
        torch::Tensor classes;  ///< int64 [N], or undefined: of none
    };
    /// The output, [N, its size]. `packs`: as the weights are, or null to pack them here. With autograd on, gradients
    /// reach `input.x` and the weights that require them, to whose grad() they are added.
    torch::Tensor operator()(const Input& input, const std::shared_ptr<const Packs>& packs) const;

private:
    friend class Run;
    struct Step {
        Work forward, backward;
    };
    struct Slot {
        int64_t size, first_step, last_step;  ///< the steps that use it
        int64_t own, shared;                  ///< where it lies, beside all others or in memory used again, per image
    };
    struct PackedWeights {
        int64_t forward, backward;  ///< where they lie
        Pack pack;
    };
    void lay_out();
    std::shared_ptr<Run> take_run(int64_t images, bool keeps) const;

    std::vector<Step> steps_;
    std::vector<Slot> slots_;
    std::vector<PackedWeights> packed_;
    int64_t own_size_ = 0, shared_size_ = 0, forward_size_ = 0, backward_size_ = 0;
    Value input_, output_;
    std::vector<torch::Tensor> weights_;
    mutable std::mutex mutex_;
    mutable std::vector<std::unique_ptr<Run>> idle_;
};

/// The memory of one walk.
class Run {
public:
    Run(const Program& program, int64_t images, bool keeps);
    void forward(const Program::Input& input, const std::shared_ptr<const Packs>& packs);
    void backward(const torch::Tensor& gradient, bool of_input, bool of_weights);
    /// [N, size], the output and, after `backward`, the gradient of the input.
    torch::Tensor output() const;
    torch::Tensor input_gradient() const;

    int64_t images() const { return images_; }
    /// Of the time and the class together: images(), or 1 where both are the same for all.
    int64_t rows() const { return rows_; }
    float time(int64_t row) const { return input_.time.data_ptr<float>()[input_.time.size(0) > 1 ? row : 0]; }
    /// Of an image or a row; none: -1.
    int64_t class_of(int64_t row) const;

    float* operator[](Value value) const;
    float* gradient(Value value) const;
    /// Where the gradient of a value goes that a step has read: null where nobody asked.
    Into into(Value value);
    const float* packed(int64_t number, bool backward) const;
    bool wants_weights() const { return of_weights_; }
    /// grad() of a weight or a bias; null where nobody asked.
    float* gradient_of(const torch::Tensor& weight) const;
    /// Room for a step's own numbers.
    float* scratch(int64_t size);

private:
    friend class Program;
    using Memory = std::unique_ptr<float, decltype(&std::free)>;
    const Program* program_;
    int64_t images_, rows_ = 1;
    bool keeps_, of_input_ = false, of_weights_ = false;
    Memory values_, gradients_;
    std::vector<float> scratch_;
    std::vector<char> touched_;
    Program::Input input_;
    std::shared_ptr<const Packs> packs_;
};

}  // namespace diffuse
