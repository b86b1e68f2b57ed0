#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/profiler_kineto.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include <atomic>
#include <cstdio>
#include <map>

#include "diffuse/base/device.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/random.hpp"
#include "diffuse/nets/net.hpp"
#include "diffuse/run/machine.hpp"
#include "diffuse/solve/likelihood.hpp"
#include "diffuse/solve/sampler.hpp"
#include "testing.hpp"
#include "training.hpp"

namespace diffuse {
namespace {

/// What holds on every device, against the CPU. The suite Cuda (`ctest -L cuda`) needs a GPU and is skipped without;
/// the suite Cpu compares the CPU with itself, with another number of threads, so that the checks are known to work.
class Device : public testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        const bool on_gpu = std::string(GetParam()) == "cuda";
        if (on_gpu && !torch::cuda::is_available()) GTEST_SKIP() << "no GPU that LibTorch can use";
        device = parse_device(GetParam());
        if (on_gpu) make_cuda_exact();
    }
    torch::Device device = torch::kCPU;
};

/// Sets the number of threads while it lives.
class Threads {
public:
    explicit Threads(int64_t count) { set_threads(count); }
    ~Threads() { set_threads(before_); }
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

private:
    const int64_t before_ = at::get_num_threads();
};

const Schedule& schedule() {
    static const Schedule linear = make_schedule({.kind = "linear", .steps = 1000});
    return linear;
}

/// Has every kind of layer.
UNetOptions small_model() {
    return {.base_channels = 16, .channel_multipliers = {1, 2}, .attention_resolutions = {7}, .patch_size = 2};
}

Config small(int64_t steps) {
    Config config;
    config.dataset = {.kind = "digits", .dir = {}, .limit = 100};
    config.net.unet = small_model();
    config.parameterization.prediction = "v";
    config.train = {.steps = steps, .batch_size = 16, .warmup_steps = 5, .decay = "none", .log_every = 1};
    config.train.sample_every = config.train.checkpoint_every = 0;
    return config;
}

/// Trains until config.train.steps, from `start` if there is one.
Checkpoint trained(const Config& config, torch::Device device, const std::filesystem::path& path,
                   const std::optional<Checkpoint>& start = {}) {
    const auto folder = RunFolder::create(path, false);
    train_on_own(config, {run_writer(folder)}, start, never, device);
    return load_checkpoint(path);
}

/// a + factor b, all tensors as one vector.
torch::Tensor combined(const NamedTensors& a, double factor, const NamedTensors& b) {
    std::vector<torch::Tensor> parts;
    for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].first, b[i].first);
        parts.push_back((a[i].second.to(torch::kFloat64) + factor * b[i].second.to(torch::kFloat64)).flatten());
    }
    return torch::cat(parts);
}

double relative_distance(const torch::Tensor& a, const torch::Tensor& b) {
    return ((a - b).norm() / b.norm()).item<double>();
}

/// The denoiser of a network whose weights have the size that training gives them, the same numbers on every device. It
/// predicts v: with untrained eps the images would grow until nothing can be compared.
Denoiser denoiser_on(torch::Device device) {
    const torch::NoGradGuard no_grad;
    Net unet = make_unet(small_model(), {}, /*seed=*/1, device);
    uint64_t index = 0;
    for (auto& weight : unet.parameters())
        weight.add_(0.05 * normal(weight.sizes(), {3, Purpose::kInitialWeights, index++}).to(device));
    unet.set_training(false);
    unet.freeze();
    return network_denoiser(unet, make_parameterization({.prediction = "v"}), schedule());
}

Sampler sampler_on(torch::Device device, const SolverKind& kind, int64_t steps) {
    return {.solver = [make = kind.make, options = on_schedule(schedule())] { return make(options); },
            .denoiser = closed_form(denoiser_on(device)),
            .grid = make_grid(schedule(), "uniform", steps),
            .seed = 5,
            .device = device,
            .threads = device.is_cpu() ? 2 : 1};
}

torch::Tensor start(int64_t count) { return sampling_noise(5, 0, count, {1, 28, 28}, 0); }

TEST_P(Device, TakesTheTrainingStepThatTheCpuTakes) {
    const TemporaryFolder folder;
    const Threads one(1);
    const Checkpoint before = trained(small(20), torch::kCPU, folder / "before"),
                     cpu = trained(small(21), torch::kCPU, folder / "cpu", before);
    const Threads two(2);  // so that on the CPU, too, sums are taken in another order
    const Checkpoint here = trained(small(21), device, folder / "here", before);
    // A mean over 12,544 numbers in float32, each of them good to 1e-5 or better (ops_test.cpp).
    EXPECT_NEAR(*here.training.loss, *cpu.training.loss, 1e-5 * *cpu.training.loss);
    // AdamW's mean takes in a tenth of the gradient. Float32 with sums in another order gives 6e-7 here, Winograd's
    // transforms ten times that, TF32 1e-3.
    const auto gradient = [&](const Checkpoint& after) {
        return combined(after.training.mean, -0.9, before.training.mean);
    };
    EXPECT_LT(relative_distance(gradient(here), gradient(cpu)), 1e-4);
    // Weights whose gradient is small among its neighbours' get its error divided by that.
    const auto update = [&](const Checkpoint& after) { return combined(after.model, -1, before.model); };
    EXPECT_LT(relative_distance(update(here), update(cpu)), 1e-3);
    EXPECT_GT(update(cpu).abs().max().item<double>(), 1e-5);
}

TEST_P(Device, DrawsTheCpusImagesByEverySolver) {
    for (const auto& [name, kind] : solvers()) {
        const auto draw = [&, &solver = kind](torch::Device where, int64_t count) {
            Sampler sampler = sampler_on(where, solver, 5);
            sampler.alone = solver.adaptive;
            if (solver.stochastic) sampler.denoiser = closed_form(clip_x0(denoiser_on(device)));
            return run(sampler, start(count)).x;
        };
        const auto expected = draw(torch::kCPU, 11), images = draw(device, 11);
        // Errors of 1e-6 in the network, as float32 makes them, become at most 2e-4 here, and those of TF32, 1e-3, at
        // least 5e-3 (measured).
        EXPECT_LT((images - expected).abs().max().item<double>(), 1e-3) << name;
        EXPECT_GT(images.std().item<double>(), 0.1) << name;
        EXPECT_TRUE(torch::equal(draw(device, 11), images)) << name << ": another time, other images";
        EXPECT_TRUE(torch::equal(draw(device, 3), images.narrow(0, 0, 3))) << name << ": depend on their number";
    }
}

TEST_P(Device, WorksOnAsManyImagesAtOnceAsAskedOnAGpuAndOnGroupsOfEightOnTheCpu) {
    Sampler sampler = sampler_on(device, look_up("solver", solvers(), "ddim"), 3);
    const auto expected = run(sampler, start(7)).x;
    std::atomic<int64_t> at_once{0};
    sampler.max_in_flight = 3;
    sampler.denoiser =
        closed_form([&, denoiser = denoiser_on(device)](const torch::Tensor& x, const NoiseLevel& level) {
            at_once = x.size(0);
            return denoiser(x, level);
        });
    const auto images = run(sampler, start(7)).x;
    EXPECT_EQ(at_once, device.is_cpu() ? 8 : 3);
    EXPECT_LE((images - expected).abs().max().item<double>(), device.is_cpu() ? 0 : 1e-3);  // as above
}

TEST_P(Device, NamesTheStepAfterWhichImagesAreNoLongerFinite) {
    Sampler sampler = sampler_on(device, look_up("solver", solvers(), "ddim"), 6);
    int calls = 0;
    sampler.denoiser = closed_form([&](const torch::Tensor& x, const NoiseLevel&) -> Prediction {
        return {++calls == 3 ? x / 0.0 : x, x};
    });
    expect_contains(error_of([&] { run(sampler, start(3)); }), "no longer finite after step 3;");
}

TEST_P(Device, EncodesAndComesBackAsTheCpuDoes) {
    const auto images = start(5).clamp(-1, 1);
    const auto round_trip_error = [&](torch::Device where, const std::string& solver) {
        Sampler decode = sampler_on(where, look_up("solver", solvers(), solver), 10), encode = decode;
        encode.grid = reversed(decode.grid);
        const auto latents = run(encode, images);
        decode.second_states = latents.second_states;
        return (run(decode, latents.x).x - images).square().mean().item<double>();
    };
    for (const std::string solver : {"ddim", "heun"}) {
        const double cpu = round_trip_error(torch::kCPU, solver);
        EXPECT_NEAR(round_trip_error(device, solver), cpu, 0.01 * cpu + 1e-6) << solver;
    }
    // Latents are kept in float32, and each step up divides by the coupling, 0.99.
    EXPECT_LT(round_trip_error(device, "reversible"), 1e-10);
}

TEST_P(Device, ResumesBitForBit) {
    const TemporaryFolder folder;
    const auto run = [&](int64_t steps, const std::string& name, const std::optional<Checkpoint>& from) {
        Config config = small(steps);
        config.net.unet.dropout = 0.1;
        return trained(config, device, folder / name, from);
    };
    run(9, "whole", {});
    run(9, "second", run(4, "first", {}));
    const auto bytes = [&](const std::string& name) { return read_file(folder / name / kCheckpointName, 1 << 26); };
    EXPECT_TRUE(bytes("second") == bytes("whole"));
}

/// While it lives, operators of LibTorch that it knows to give other bits each time throw, and memory that was never
/// written is NaN.
class OnlyDeterministic {
public:
    OnlyDeterministic() { at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false); }
    ~OnlyDeterministic() { at::globalContext().setDeterministicAlgorithms(false, false); }
    OnlyDeterministic(const OnlyDeterministic&) = delete;
    OnlyDeterministic& operator=(const OnlyDeterministic&) = delete;
};

TEST_P(Device, UsesNoOperatorThatLibTorchKnowsToDifferFromRunToRun) {
    const TemporaryFolder folder;
    const OnlyDeterministic guard;
    Config config = small(3);
    config.net.unet.dropout = 0.1;
    config.train.weighting = "min-snr";
    EXPECT_TRUE(trained(config, device, folder / "run").training.loss.has_value());
    Sampler sampler = sampler_on(device, look_up("solver", solvers(), "ddpm"), 3);
    sampler.denoiser = closed_form(clip_x0(denoiser_on(device)));
    EXPECT_TRUE(run(sampler, start(2)).x.isfinite().all().item<bool>());
}

TEST_P(Device, MeasuresTheCpusLikelihood) {
    const auto bytes = ((start(4).clamp(-1, 1) + 1) * 127.5).round().to(torch::kUInt8);
    const Grid grid = likelihood_grid(schedule(), 5), chain = make_grid(schedule(), "uniform", 10);
    const Draws draws{.seed = 1};
    const auto measured = [&](torch::Device where) {
        const auto some = bytes.to(where);
        const auto denoiser = denoiser_on(where);
        const auto uniform = ode_log_density(denoiser, grid, dequantised(some, draws), /*probes=*/1, draws);
        return torch::stack({bits_per_dim(uniform, 28 * 28), ode_bound(denoiser, chain, grid, some, 1, draws),
                             variational_bound(denoiser, chain, some, draws).total()})
            .cpu();
    };
    const auto expected = measured(torch::kCPU), found = measured(device);
    // Bits a dimension of an untrained network, some thousand; the network rounds to float32.
    EXPECT_LT(((found - expected) / expected).abs().max().item<double>(), 1e-4) << found << expected;
}

/// What took the time while `work` ran, and how often something was copied from a GPU, which then has to be waited for.
struct Profile {
    std::map<std::string, double> milliseconds;  ///< of each kernel on a GPU, else of each of LibTorch's operators
    int64_t copies_from_gpu = 0;
};

/// LibTorch before 2.4 counts microseconds.
template <class Event>
double milliseconds_of(const Event& event) {
    if constexpr (requires { event.durationNs(); }) {
        return double(event.durationNs()) / 1e6;
    } else {
        return double(event.durationUs()) / 1e3;
    }
}

Profile profiled(torch::Device device, const std::function<void()>& work) {
    using namespace torch::autograd::profiler;
    using torch::profiler::impl::ActivityType;
    const torch::profiler::impl::ProfilerConfig config(torch::profiler::impl::ProfilerState::KINETO);
    std::set<ActivityType> activities = {ActivityType::CPU};
    if (device.is_cuda()) activities.insert(ActivityType::CUDA);
    prepareProfiler(config, activities);
    enableProfiler(config, activities, {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION});
    work();
    if (device.is_cuda()) torch::cuda::synchronize();
    const auto result = disableProfiler();
    Profile profile;
    for (const auto& event : result->events()) {
        if (event.name().find("Memcpy DtoH") != std::string::npos) ++profile.copies_from_gpu;
        if (event.deviceType() != device.type()) continue;
        profile.milliseconds[event.name()] += milliseconds_of(event);
    }
    return profile;
}

TEST_P(Device, CopiesFromAGpuOnceATrainingStep) {
    const TemporaryFolder folder;
    const auto profile_of = [&](int64_t steps) {
        Config config = small(steps);
        config.train.log_every = 1000;
        return profiled(device, [&] { trained(config, device, folder / std::to_string(steps)); });
    };
    profile_of(3);  // what LibTorch does once
    // Both begin and end with a checkpoint, which is copied.
    const Profile ten = profile_of(10), thirty = profile_of(30);
    EXPECT_EQ(thirty.copies_from_gpu - ten.copies_from_gpu, device.is_cuda() ? 20 : 0);
    EXPECT_FALSE(thirty.milliseconds.empty());
    std::vector<std::pair<double, std::string>> largest;
    for (const auto& [name, time] : thirty.milliseconds) largest.emplace_back(time, name);
    std::sort(largest.rbegin(), largest.rend());
    largest.resize(std::min<size_t>(largest.size(), 10));
    for (const auto& [time, name] : largest) std::printf("%9.3f ms  %s\n", time, name.substr(0, 100).c_str());
}

INSTANTIATE_TEST_SUITE_P(Cpu, Device, testing::Values("cpu"));
INSTANTIATE_TEST_SUITE_P(Cuda, Device, testing::Values("cuda"));

}  // namespace
}  // namespace diffuse
