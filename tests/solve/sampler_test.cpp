#include "diffuse/solve/sampler.hpp"

#include <atomic>

#include "diffuse/base/random.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/nets/net.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

/// A U-Net with random weights: nothing about these promises needs it to be trained.
Net random_unet(int64_t classes = 0) {
    const torch::NoGradGuard no_grad;
    Net unet =
        make_unet({.base_channels = 16, .channel_multipliers = {1, 2}, .attention_resolutions = {7}, .patch_size = 2},
                  {}, 1, torch::kCPU, classes);
    torch::manual_seed(1);
    for (auto& weight : unet.parameters()) weight.add_(0.02 * torch::randn_like(weight));
    unet.set_training(false);
    return unet;
}

Denoiser of_network(Network network) {
    return network_denoiser(std::move(network), make_parameterization({.prediction = "eps"}),
                            make_schedule({.kind = "linear"}));
}

Denoiser random_network() { return of_network(random_unet()); }

Sampler stochastic_sampler() {
    return {.solver = [] { return make_solver("ddim", {.eta = 0.7}); },
            .denoiser = closed_form(clip_x0(random_network())),
            .grid = make_grid(make_schedule({.kind = "linear", .steps = 1000}), "uniform", 4),
            .seed = 5};
}

/// The same sampler, unobserved.
Sampler unobserved(Sampler sampler) {
    sampler.record = nullptr;
    return sampler;
}

torch::Tensor start(int64_t count) { return sampling_noise(5, 0, count, {1, 28, 28}, 0); }

TEST(Sampler, ImageIDoesNotDependOnHowManyAreDrawn) {
    const auto all = run(stochastic_sampler(), start(19)).x;
    for (const int64_t count : {1, 7, 8, 9, 16}) {
        EXPECT_TRUE(torch::equal(run(stochastic_sampler(), start(count)).x, all.narrow(0, 0, count))) << count;
    }
}

TEST(Sampler, ImagesDependNeitherOnThreadsNorOnTheBatch) {
    const auto alone = run(stochastic_sampler(), start(19)).x;
    for (const int count : {2, 3}) {
        for (const int64_t batch : {0, 1, 8, 12, 100}) {
            Sampler sampler = stochastic_sampler();
            sampler.threads = count;
            sampler.max_in_flight = batch;
            EXPECT_TRUE(torch::equal(run(sampler, start(19)).x, alone)) << count << " threads, batch " << batch;
        }
    }
}

TEST(Sampler, AnImageIsAFunctionOfItsOwnLabelAndNotOfThreadsOrTheBatch) {
    Sampler sampler = stochastic_sampler();
    sampler.denoiser = [unet = random_unet(/*classes=*/3)](const Condition& condition, const Counter& evaluations) {
        return clip_x0(network_denoiser(counted(unet, evaluations), make_parameterization({}),
                                        make_schedule({.kind = "linear"}), condition));
    };
    const auto draw = [&](const torch::Tensor& labels_of, int64_t threads, int64_t batch) {
        sampler.condition.classes = labels_of;
        sampler.threads = threads;
        sampler.max_in_flight = batch;
        return run(sampler, start(labels_of.defined() ? labels_of.size(0) : 19)).x;
    };
    const auto labels = torch::arange(19).remainder(4);  // 3: none
    const auto alone = draw(labels, 1, 0);
    EXPECT_TRUE(torch::equal(draw(labels, 3, 12), alone));
    EXPECT_TRUE(torch::equal(draw(labels.narrow(0, 0, 11), 1, 0), alone.narrow(0, 0, 11)));
    auto others = labels.clone();
    others[12] = 1;
    const auto differs = draw(others, 2, 0).ne(alone).flatten(1).any(1);
    EXPECT_EQ(differs.sum().item<int64_t>(), 1);
    EXPECT_TRUE(differs[12].item<bool>());
    // Told "none" and not told, to rounding: the layers of the time and the label run on other batch sizes.
    EXPECT_TRUE(torch::allclose(draw(torch::full({19}, 3, torch::kInt64), 1, 0), draw({}, 1, 0), 0, 1e-3));
}

TEST(Sampler, TheSeedDecidesTheImages) {
    Sampler other = stochastic_sampler();
    other.seed = 6;
    const auto first = run(stochastic_sampler(), start(8)).x;
    EXPECT_TRUE(torch::equal(first, run(stochastic_sampler(), start(8)).x));
    EXPECT_FALSE(torch::equal(first, run(other, start(8)).x));
}

/// From images to latents and second states in a file, and from what the file holds back to images.
torch::Tensor through_a_file(const SolverFactory& solver, const Denoiser& denoiser, int64_t steps,
                             const torch::Tensor& images) {
    const TemporaryFolder folder;
    Sampler decode{.solver = solver,
                   .denoiser = closed_form(denoiser),
                   .grid = make_grid(make_schedule({.kind = "linear", .steps = 1000}), "uniform", steps)};
    Sampler encode = decode;
    encode.grid = reversed(decode.grid);
    const auto encoded = run(encode, images);
    TensorFile file{{{"latents", encoded.x}}, {}};
    if (encoded.second_states.defined()) file.tensors["second_states"] = encoded.second_states;
    write_tensor_file(folder / "file", file);
    const TensorFile read = read_tensor_file(folder / "file");
    if (encoded.second_states.defined()) decode.second_states = read.at("second_states", folder / "file");
    return run(decode, read.at("latents", folder / "file")).x;
}

double mean_difference(const torch::Tensor& a, const torch::Tensor& b) { return (a - b).abs().mean().item<double>(); }

TEST(Sampler, TheReversibleSolverReturnsToTheImagesFromAFileOfLatentsAndSecondStates) {
    const auto images = start(5).clamp(-1, 1);
    const auto returned = through_a_file([] { return make_solver("reversible"); }, random_network(), 10, images);
    // The file rounds to float32, by up to 6e-8; on the way back 1 / alpha multiplies that by 157, and the network by
    // some more. A step of a byte is 8e-3.
    EXPECT_LT((returned - images).abs().max().item<double>(), 1e-3);
}

TEST(Sampler, DdimReturnsFromAFileOfLatentsTheCloserTheMoreSteps) {
    const auto images = start(5).clamp(-1, 1);
    const auto off = [&](int64_t steps) {
        const auto ddim = [] { return make_solver("ddim", {.eta = 0}); };
        return mean_difference(through_a_file(ddim, GaussianData{}.denoiser(), steps, images), images);
    };
    const double coarse = off(100), fine = off(200);
    EXPECT_LT(fine, 0.05);
    EXPECT_NEAR(coarse / fine, 2, 0.2);  // a method of first order
}

TEST(Sampler, CountsTheNetworkEvaluationsOfEachImage) {
    Sampler sampler = stochastic_sampler();
    EXPECT_EQ(run(sampler, start(20)).nfe, 4);
    sampler.solver = [] { return make_solver("heun"); };
    EXPECT_EQ(run(sampler, start(20)).nfe, 7);  // two a step, one for the last
}

TEST(Sampler, CountsEveryCallOfANetworkWhateverTheDenoiserMakesOfThem) {
    Sampler sampler = stochastic_sampler();
    sampler.denoiser = [unet = random_unet()](const Condition&, const Counter& evaluations) -> Denoiser {
        const auto once = of_network(counted(unet, evaluations));
        return clip_x0([once](const torch::Tensor& x, const NoiseLevel& level) -> Prediction {
            return {once(x, level).x0, once(x, level).eps};  // as guidance by a second network does
        });
    };
    EXPECT_EQ(run(sampler, start(20)).nfe, 8);
}

/// Asks for three draws in a step, one of them twice.
struct ThreeDraws : Solver {
    torch::Tensor step(const Denoiser&, const torch::Tensor& x, const NoiseLevel&, const NoiseLevel&,
                       const Noise& noise) override {
        EXPECT_TRUE(torch::equal(noise(1), noise(1))) << "drawn again";
        return x + noise(0) + 10 * noise(1) + 100 * noise(2);
    }
};

TEST(Sampler, TheDrawsOfAStepAreIndependent) {
    Sampler sampler = stochastic_sampler();
    sampler.solver = [] { return std::make_unique<ThreeDraws>(); };
    const auto added = run(sampler, torch::zeros({40, 1, 28, 28})).x;
    // Variances add up for independent numbers only: were any two of the twelve draws the same, by a fifth more at
    // least. The standard error of a variance of 31,360 numbers is 0.8%.
    EXPECT_NEAR(added.var().item<double>() / (4 * 10101), 1, 0.05);
}

/// A step against the gradient of |x0|^2, as methods that condition on a measurement take them.
struct Descent : Solver {
    torch::Tensor step(const Denoiser& denoiser, const torch::Tensor& x, const NoiseLevel& from, const NoiseLevel&,
                       const Noise&) override {
        const auto input = x.detach().requires_grad_(true);
        denoiser(input, from).x0.square().sum().backward();
        return x - 1e-6 * input.grad();
    }
};

TEST(Sampler, LetsSolversTakeGradientsThroughTheDenoiser) {
    Sampler sampler = stochastic_sampler();
    sampler.denoiser = closed_form(random_network());
    sampler.solver = [] { return std::make_unique<Descent>(); };
    EXPECT_FALSE(torch::equal(run(sampler, start(3)).x, start(3)));
}

TEST(Sampler, RecordsNoGraphUnlessAskedTo) {
    const auto unet = random_unet();  // whose weights still want gradients
    const NoiseLevel level = make_schedule({.kind = "linear"}).at(500);
    EXPECT_FALSE(of_network(unet)(start(2), level).x0.requires_grad());
    EXPECT_TRUE(of_network(unet)(start(2).requires_grad_(true), level).x0.requires_grad());
}

TEST(Sampler, WalksPointsInThePlaneInLargeGroups) {
    Sampler sampler = stochastic_sampler();
    std::atomic<int64_t> calls{0};
    sampler.denoiser = closed_form([&](const torch::Tensor& x, const NoiseLevel& level) {
        ++calls;
        return MixtureData{}.denoiser()(x, level);
    });
    const auto points = sampling_noise(5, 0, 10'000, {2}, 0);
    const auto result = run(sampler, points).x;
    EXPECT_EQ(result.sizes(), points.sizes());
    EXPECT_LE(calls, 4 * 4);  // steps, groups
    EXPECT_TRUE(torch::equal(run(sampler, points.narrow(0, 0, 7)).x, result.narrow(0, 0, 7)));
}

TEST(Sampler, RecordsTheStatesOfTheWalkAndWhatTheDenoiserMakesOfThem) {
    for (const auto& [name, kind] : solvers()) {
        const int64_t count = kind.adaptive ? 1 : 3;  // whose examples go alone
        Sampler sampler = stochastic_sampler();
        const Denoiser denoiser = clip_x0(random_network());
        const SolverOptions options = on_schedule(make_schedule({.kind = "linear", .steps = 1000}));
        sampler.solver = [make = kind.make, options] { return make(options); };
        sampler.alone = kind.adaptive;
        std::vector<torch::Tensor> states, expected = {start(count).to(torch::kFloat64)};
        sampler.record = [&, &name = name](const torch::Tensor& x, const torch::Tensor& x0) {
            const NoiseLevel& level = sampler.grid[states.size()];
            states.push_back(x);
            // The network saw these three beside five others, or not: float32's rounding, over alpha = 0.006.
            EXPECT_TRUE(torch::allclose(x0, denoiser(x, level).x0, 0, 1e-2)) << name;
        };
        const auto last = run(sampler, start(count));

        const auto solver = kind.make(options);
        const auto noise = [&](int64_t step, int64_t k) {
            return sampling_noise(sampler.seed, 0, count, {1, 28, 28}, step_draw(step, k)).to(torch::kFloat64);
        };
        const auto observer = [&](int64_t, const torch::Tensor& x) { expected.push_back(x); };
        integrate(*solver, denoiser, expected[0], sampler.grid, noise, observer);
        ASSERT_EQ(states.size() + 1, expected.size()) << name;
        for (size_t i = 0; i < states.size(); ++i) {
            EXPECT_TRUE(torch::allclose(states[i], expected[i], 0, 1e-3)) << name << ", step " << i;
        }
        EXPECT_EQ(last.nfe, run(unobserved(sampler), start(count)).nfe) << name;
    }
}

TEST(Sampler, ProgressEndsAtTheTotal) {
    Sampler sampler = stochastic_sampler();
    sampler.threads = 2;
    std::atomic<int64_t> calls{0}, last{0};
    sampler.progress = [&](int64_t done, int64_t total) {
        ++calls;
        if (done == total) last = total;
    };
    run(sampler, start(20));
    EXPECT_EQ(calls, 3 * 4);  // three groups of eight, four steps
    EXPECT_EQ(last, 3 * 4);
}

TEST(Sampler, ImagesThatAreNoLongerFiniteAreAnError) {
    Sampler sampler = stochastic_sampler();
    sampler.denoiser = closed_form([](const torch::Tensor& x, const NoiseLevel&) -> Prediction {
        return {x / 0.0, x};
    });
    expect_contains(error_of([&] { run(sampler, start(3)); }), "no longer finite after step 1");
}

}  // namespace
}  // namespace diffuse
