// What a user does first: train a network that predicts eps under the DDPM loss, and sample by any solver.

#include "diffuse/base/device.hpp"
#include "diffuse/solve/sampler.hpp"
#include "diffuse/train/trainer.hpp"
#include "testing.hpp"

namespace diffuse {
namespace {

Config eps_config(const std::string& schedule) {
    Config config;
    config.dataset = {.kind = "digits", .dir = {}, .limit = 2000};
    config.schedule.kind = schedule;
    config.model = {.base_channels = 16, .channel_multipliers = {1, 2}};
    config.train.steps = 600;
    config.train.batch_size = 32;
    config.train.learning_rate = 4e-3;
    config.train.ema_decay = 0.98;
    config.train.sample_every = 0;
    config.train.checkpoint_every = 0;
    return config;
}

/// Mean, standard deviation, and the share of pixels that are all but white.
struct Statistics {
    double mean, std, white;
};

Statistics statistics_of(const torch::Tensor& images) {
    const auto x = images.clamp(-1, 1).to(torch::kFloat64);
    return {x.mean().item<double>(), x.std().item<double>(), (x > 0.9).to(torch::kFloat64).mean().item<double>()};
}

/// 64 images as `diffuse sample` draws them: stochastic solvers clip.
torch::Tensor draw(const SolverKind& kind, const Denoiser& denoiser, const Grid& grid) {
    const Walk walk{.solver = [make = kind.make] { return make(0); },
                    .denoiser = closed_form(kind.stochastic ? clip_x0(denoiser) : denoiser),
                    .grid = grid,
                    .threads = 2};
    return walk_images(walk, sampling_noise(0, 0, 64, {1, 28, 28}, 0)).images;
}

/// What 600 steps leave of the network's error moves the mean by 0.22 at most, the deviation by 0.12 and the share of
/// white pixels by 0.055 (measured, all solvers and both schedules).
void expect_like_data(const Statistics& drawn, const Statistics& real, const std::string& name) {
    EXPECT_NEAR(drawn.mean, real.mean, 0.3) << name;
    EXPECT_NEAR(drawn.std, real.std, 0.2) << name;
    EXPECT_NEAR(drawn.white, real.white, 0.1) << name;
}

class PlainPath : public testing::TestWithParam<const char*> {};

TEST_P(PlainPath, AnEpsNetworksSamplesLookLikeTheDataByEverySolver) {
    const TemporaryFolder folder;
    const Config config = eps_config(GetParam());
    const Dataset data = load_dataset(config.dataset, Split::kTrain);
    set_threads(2);
    train(config, data, torch::kCPU, RunFolder::create(folder / "run", false), std::nullopt, [] { return false; });
    const Schedule schedule = make_schedule(config.schedule);
    const Denoiser denoiser = network_denoiser(
        make_network(load_checkpoint(folder / "run"), Weights::kEma, torch::kCPU), parameterization("eps"), schedule);
    const Statistics real = statistics_of(to_signed(data.images));
    const Grid grid = make_grid(schedule, "uniform", 20);
    for (const auto& [name, kind] : solvers()) {
        const Statistics drawn = statistics_of(draw(kind, denoiser, grid));
        expect_like_data(drawn, real, name);
    }
}

INSTANTIATE_TEST_SUITE_P(Schedules, PlainPath, testing::Values("linear", "cosine"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace diffuse
