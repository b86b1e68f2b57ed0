#include "diffuse/sampler.hpp"

#include <atomic>

#include "diffuse/random.hpp"
#include "diffuse/tensor_file.hpp"
#include "diffuse/unet.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

/// A U-Net with random weights: nothing about these promises needs it to be trained.
Denoiser random_network() {
    const torch::NoGradGuard no_grad;
    UNet unet({.base_channels = 16, .channel_multipliers = {1, 2}, .attention_resolutions = {7}, .patch_size = 2}, {},
              1, torch::kCPU);
    for (auto& weight : unet.parameters()) weight.add_(0.02 * torch::randn_like(weight));
    unet.set_training(false);
    return network_denoiser(unet, parameterization("eps"), make_schedule({.kind = "linear", .steps = 1000}));
}

Walk stochastic_walk() {
    return {.solver = [] { return make_ddim(0.7); },
            .denoiser = clip_x0(random_network()),
            .grid = make_grid(make_schedule({.kind = "linear", .steps = 1000}), "uniform", 4),
            .seed = 5};
}

/// The same walk, unobserved.
Walk unobserved(Walk walk) {
    walk.record = nullptr;
    return walk;
}

torch::Tensor start(int64_t count) { return sampling_noise(5, 0, count, {1, 28, 28}, 0); }

TEST(Sampler, ImageIDoesNotDependOnHowManyAreDrawn) {
    const auto all = walk_images(stochastic_walk(), start(19)).images;
    for (const int64_t count : {1, 7, 8, 9, 16}) {
        EXPECT_TRUE(torch::equal(walk_images(stochastic_walk(), start(count)).images, all.narrow(0, 0, count)))
            << count;
    }
}

TEST(Sampler, ImagesDependNeitherOnThreadsNorOnTheBatch) {
    const auto alone = walk_images(stochastic_walk(), start(19)).images;
    for (const int count : {2, 3}) {
        for (const int64_t batch : {0, 1, 8, 12, 100}) {
            Walk walk = stochastic_walk();
            walk.threads = count;
            walk.most_in_flight = batch;
            EXPECT_TRUE(torch::equal(walk_images(walk, start(19)).images, alone))
                << count << " threads, batch " << batch;
        }
    }
}

TEST(Sampler, TheSeedDecidesTheImages) {
    Walk other = stochastic_walk();
    other.seed = 6;
    const auto first = walk_images(stochastic_walk(), start(8)).images;
    EXPECT_TRUE(torch::equal(first, walk_images(stochastic_walk(), start(8)).images));
    EXPECT_FALSE(torch::equal(first, walk_images(other, start(8)).images));
}

/// From images to latents and second states in a file, and from what the file holds back to images.
torch::Tensor through_a_file(const SolverFactory& solver, const Denoiser& denoiser, int64_t steps,
                             const torch::Tensor& images) {
    const TemporaryFolder folder;
    Walk decode{.solver = solver,
                .denoiser = denoiser,
                .grid = make_grid(make_schedule({.kind = "linear", .steps = 1000}), "uniform", steps)};
    Walk encode = decode;
    encode.grid = reversed(decode.grid);
    const auto encoded = walk_images(encode, images);
    TensorFile file{{{"latents", encoded.images}}, {}};
    if (encoded.companions.defined()) file.tensors["companions"] = encoded.companions;
    write_tensor_file(folder / "file", file);
    const TensorFile read = read_tensor_file(folder / "file");
    if (encoded.companions.defined()) decode.companions = read.at("companions", folder / "file");
    return walk_images(decode, read.at("latents", folder / "file")).images;
}

double mean_difference(const torch::Tensor& a, const torch::Tensor& b) { return (a - b).abs().mean().item<double>(); }

TEST(Sampler, TheReversibleSolverReturnsToTheImagesFromAFileOfLatentsAndSecondStates) {
    const auto images = start(5).clamp(-1, 1);
    const auto returned = through_a_file(make_reversible, random_network(), 10, images);
    // The file rounds to float32, by up to 6e-8; on the way back 1 / alpha multiplies that by 157, and the network by
    // some more. A step of a byte is 8e-3.
    EXPECT_LT((returned - images).abs().max().item<double>(), 1e-3);
}

TEST(Sampler, DdimReturnsFromAFileOfLatentsTheCloserTheMoreSteps) {
    const auto images = start(5).clamp(-1, 1);
    const auto off = [&](int64_t steps) {
        const auto ddim = [] { return make_ddim(0); };
        return mean_difference(through_a_file(ddim, GaussianData{}.denoiser(), steps, images), images);
    };
    const double coarse = off(100), fine = off(200);
    EXPECT_LT(fine, 0.05);
    EXPECT_NEAR(coarse / fine, 2, 0.2);  // a method of first order
}

TEST(Sampler, CountsTheNetworkEvaluationsOfEachImage) {
    Walk walk = stochastic_walk();
    EXPECT_EQ(walk_images(walk, start(20)).nfe, 4);
    walk.solver = make_heun;
    EXPECT_EQ(walk_images(walk, start(20)).nfe, 7);  // two a step, one for the last
}

TEST(Sampler, RecordsTheStatesOfTheWalkAndWhatTheDenoiserMakesOfThem) {
    for (const auto& [name, kind] : solvers()) {
        Walk walk = stochastic_walk();
        walk.solver = [make = kind.make] { return make(0); };
        std::vector<torch::Tensor> states, expected = {start(3).to(torch::kFloat64)};
        walk.record = [&, &name = name](const torch::Tensor& x, const torch::Tensor& x0) {
            const NoiseLevel& level = walk.grid[states.size()];
            states.push_back(x);
            // The network saw these three beside five others, or not: float32's rounding, over alpha = 0.006.
            EXPECT_TRUE(torch::allclose(x0, walk.denoiser(x, level).x0, 0, 1e-2)) << name;
        };
        const auto last = walk_images(walk, start(3));

        const auto solver = kind.make(0);
        const auto noise = [&](int64_t step) {
            return sampling_noise(walk.seed, 0, 3, {1, 28, 28}, step + 1).to(torch::kFloat64);
        };
        const auto observer = [&](int64_t, const torch::Tensor& x) { expected.push_back(x); };
        integrate(*solver, walk.denoiser, expected[0], walk.grid, noise, observer);
        ASSERT_EQ(states.size() + 1, expected.size()) << name;
        for (size_t i = 0; i < states.size(); ++i) {
            EXPECT_TRUE(torch::allclose(states[i], expected[i], 0, 1e-3)) << name << ", step " << i;
        }
        EXPECT_EQ(last.nfe, walk_images(unobserved(walk), start(3)).nfe) << name;
    }
}

TEST(Sampler, ProgressEndsAtTheTotal) {
    Walk walk = stochastic_walk();
    walk.threads = 2;
    std::atomic<int64_t> calls{0}, last{0};
    walk.progress = [&](int64_t done, int64_t total) {
        ++calls;
        if (done == total) last = total;
    };
    walk_images(walk, start(20));
    EXPECT_EQ(calls, 3 * 4);  // three groups of eight, four steps
    EXPECT_EQ(last, 3 * 4);
}

TEST(Sampler, ImagesThatAreNoLongerFiniteAreAnError) {
    Walk walk = stochastic_walk();
    walk.denoiser = [](const torch::Tensor& x, const NoiseLevel&) -> Prediction { return {x / 0.0, x}; };
    expect_contains(error_of([&] { walk_images(walk, start(3)); }), "no longer finite after step 1");
}

}  // namespace
}  // namespace diffuse
