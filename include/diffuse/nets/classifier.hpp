#pragma once

#include <string>
#include <utility>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// The classifier whose features the Fréchet distance is taken in. A number is only comparable with others of the same
/// version.
inline constexpr const char* kClassifierName = "mnist-fid-v1";

/// What the classifier sees in N images, on the CPU.
struct Classification {
    torch::Tensor features;       ///< float64 [N, 64]
    torch::Tensor probabilities;  ///< of the digits 0 .. 9, float32 [N, 10]
};

/// A small convolutional network that tells MNIST's digits apart: five 3x3 convolutions with ReLU, the second and the
/// fourth followed by 2x2 max-pooling; its features are the means of the last one's 64 channels over the image, from
/// which a linear layer makes the classes. Copies share their weights.
class Classifier {
public:
    /// The trained one that the program carries, made by scripts/train-classifier.
    static Classifier pretrained();
    /// Random initial weights (He et al. 2015, arXiv:1502.01852, eq. 10), a function of `seed`.
    static Classifier untrained(uint64_t seed);

    /// images: float32 [N, 1, 28, 28] in [-1, 1] -> features [N, 64] and logits [N, 10], both float32
    std::pair<torch::Tensor, torch::Tensor> forward(const torch::Tensor& images) const;

    /// Features and probabilities of any number of such images, on the CPU. What it says of an image depends neither on
    /// how many there are nor on the number of threads, bit for bit. Throws Error for images of another size.
    Classification classify(const torch::Tensor& images) const;

    /// Accuracy on MNIST's 10,000 test images, 0 to 1, as measured when it was trained; 0 if it was not.
    double test_accuracy() const { return test_accuracy_; }

    /// The weights by name; assigning through them changes the classifier.
    const std::vector<std::pair<std::string, torch::Tensor>>& named_parameters() const { return parameters_; }
    std::vector<torch::Tensor> parameters() const;

private:
    Classifier();
    std::vector<std::pair<std::string, torch::Tensor>> parameters_;  // weight and bias of each layer, in turn
    double test_accuracy_ = 0;
};

}  // namespace diffuse
