// Trains the classifier of include/diffuse/nets/classifier.hpp on MNIST:  train_classifier OUT.safetensors
// The weights that come out are a function of the seed and of how LibTorch rounds on this machine, not of the number of
// threads. The test images are looked at once, after the last step.

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdio>

#include "diffuse/base/device.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/parallel.hpp"
#include "diffuse/base/progress.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/data/dataset.hpp"
#include "diffuse/nets/classifier.hpp"
#include "diffuse/train/batch.hpp"
#include "diffuse/train/flat_parameters.hpp"
#include "diffuse/train/learning_rate.hpp"
#include "diffuse/train/optimizer.hpp"

namespace diffuse {
namespace {

constexpr uint64_t kSeed = 1;
constexpr int64_t kEpochs = 12, kReplicas = 4;
constexpr double kMaxRadians = 0.2, kMaxScale = 0.1, kMaxShear = 0.1, kMaxPixels = 2;  // of the augmentation

/// Turns, scales, shears and shifts each image a little, at random by its position in the order of training.
torch::Tensor augmented(const torch::Tensor& images, int64_t first_position) {
    auto maps = torch::empty({images.size(0), 2, 3});
    for (int64_t i = 0; i < images.size(0); ++i) {
        Random random({kSeed, Purpose::kAugmentation, uint64_t(first_position + i)});
        const auto most = [&](double limit) { return random.uniform(-limit, limit); };
        const double angle = most(kMaxRadians), scale = 1 + most(kMaxScale), shear = most(kMaxShear);
        const double cosine = scale * std::cos(angle), sine = scale * std::sin(angle);
        const double pixel = 2.0 / double(images.size(3));  // in the grid's coordinates, which go from -1 to 1
        const double dx = pixel * most(kMaxPixels), dy = pixel * most(kMaxPixels);
        const double map[] = {cosine, shear * cosine - sine, dx, sine, shear * sine + cosine, dy};
        std::copy_n(map, 6, maps.data_ptr<float>() + 6 * i);
    }
    const auto grid = torch::affine_grid_generator(maps, images.sizes(), /*align_corners=*/false);
    // What comes in from outside is 0, so black has to be 0 meanwhile.
    return torch::grid_sampler(images + 1, grid, /*bilinear*/ 0, /*zeros outside*/ 0, /*align_corners=*/false) - 1;
}

double accuracy(const Classifier& classifier, const Dataset& dataset) {
    const auto digits = classifier.classify(to_signed(dataset.examples)).probabilities.argmax(1);
    return digits.eq(dataset.condition.classes).to(torch::kFloat64).mean().item<double>();
}

/// One of several copies that share their weights, each working on its part of a batch.
struct Replica {
    Classifier network = Classifier::untrained(kSeed);
    torch::Tensor gradient, loss;
};

/// Cross-entropy and its gradient for the images at positions first .. first + count - 1 of the order of training.
void backward(Replica& replica, const Dataset& dataset, const torch::Tensor& indices, int64_t first) {
    const auto images = augmented(to_signed(dataset.examples.index_select(0, indices)), first);
    const auto [features, logits] = replica.network.forward(images);
    const auto loss =
        torch::nll_loss(logits.log_softmax(1), dataset.condition.classes.index_select(0, indices)) / double(kReplicas);
    replica.gradient.zero_();
    loss.backward();
    replica.loss = loss.detach();
}

Classifier train(const Dataset& dataset) {
    TrainOptions config;
    config.batch_size = 128;
    config.learning_rate = 3e-3;
    config.weight_decay = 0.01;
    config.ema_decay = 0.998;
    config.steps = kEpochs * dataset.size() / config.batch_size;
    config.warmup_steps = config.steps / 20;
    const int64_t share = config.batch_size / kReplicas, threads = at::get_num_threads();

    const Classifier average = Classifier::untrained(kSeed);
    auto ema = flatten_parameters(average.parameters());
    const auto weights = ema.clone();
    std::vector<Replica> replicas(kReplicas);
    for (auto& replica : replicas) {
        const auto parameters = replica.network.parameters();
        for (auto& parameter : parameters) parameter.requires_grad_();
        view_parameters(parameters, weights);
        replica.gradient = flatten_gradients(parameters);
    }
    AdamW optimizer(weights, ema, config.beta2, config.weight_decay);
    DataOrder order(kSeed, dataset.size());
    const LearningRate learning_rate = make_learning_rate(config, config.learning_rate);
    Progress progress("training the classifier: step", config.steps);
    const SingleThreaded guard;
    Workers workers(std::min<int64_t>(threads, kReplicas));
    for (int64_t step = 0; step < config.steps; ++step) {
        const int64_t first = step * config.batch_size;
        const auto indices = order.indices(first, config.batch_size);
        workers.for_each(kReplicas, [&](int64_t i) {
            backward(replicas[size_t(i)], dataset, indices.narrow(0, i * share, share), first + i * share);
        });
        auto gradient = replicas.front().gradient;
        for (size_t i = 1; i < replicas.size(); ++i) gradient.add_(replicas[i].gradient);
        optimizer.step(gradient, clip_factor(gradient.norm().item<double>(), config.gradient_clip),
                       learning_rate(step + 1), ema_decay(config.ema_decay, step + 1));
        progress.update(step + 1,
                        [&] { return fmt::format("loss {:.4f}", kReplicas * replicas.front().loss.item<double>()); });
    }
    return average;
}

void run(const std::filesystem::path& out) {
    require_writable(out);
    const Dataset dataset = load_dataset({}, Split::kTrain), test = load_dataset({}, Split::kTest);
    set_threads(0);
    const Stopwatch watch;
    const Classifier classifier = train(dataset);
    const double on_train = accuracy(classifier, dataset), on_test = accuracy(classifier, test);
    const auto& parameters = classifier.named_parameters();
    write_tensor_file(out, {{parameters.begin(), parameters.end()},
                            {{"format", "mnist-fid-1"},
                             {"name", kClassifierName},
                             {"test_accuracy", fmt::format("{:.4f}", on_test)},
                             {"train_accuracy", fmt::format("{:.4f}", on_train)},
                             {"trained_on", fingerprint(dataset)},
                             {"tested_on", fingerprint(test)}}});
    log::info(fmt::format("trained in {}; reads {:.2f}% of the training images and {:.2f}% of the test images right",
                          format_duration(watch.seconds()), 100 * on_train, 100 * on_test));
    std::puts(display_path(out).c_str());
}

}  // namespace
}  // namespace diffuse

int main(int argc, char** argv) {
    try {
        if (argc != 2) throw diffuse::Error("usage: train_classifier OUT.safetensors");
        diffuse::run(argv[1]);
    } catch (const diffuse::Error& error) {
        fmt::print(stderr, "error: {}\n", error.what());
        return error.exit_code;
    }
}
