#include "cli/common.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>

#include "diffuse/base/device.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/plot/image.hpp"

namespace diffuse::cli {
namespace {

constexpr int64_t kUsualSteps = 20;

}  // namespace

CLI::Validator known_name(const std::string& kind, std::vector<std::string> known) {
    const std::string list = fmt::format("{}", fmt::join(known, "|"));
    const auto check = [kind, known = std::move(known)](std::string& name) {
        const bool found = std::find(known.begin(), known.end(), name) != known.end();
        return found ? std::string() : unknown_name(kind, name, known);
    };
    return CLI::Validator(check, list);
}

void RuntimeOptions::add_to(CLI::App& command) {
    command.add_option("--device", device, "auto, cpu, cuda or cuda:N")->capture_default_str();
    command.add_option("--threads", threads, "CPU threads; 0: one a core")
        ->check(range<int64_t>(0, 1024))
        ->capture_default_str();
    auto* quiet_flag = command.add_flag("--quiet", quiet, "print warnings and errors only, and no progress");
    command.add_flag("--verbose", verbose, "print details too")->excludes(quiet_flag);
}

torch::Device RuntimeOptions::apply() const {
    log::set_stderr_level(quiet ? log::Level::kWarn : verbose ? log::Level::kDebug : log::Level::kInfo);
    set_threads(threads);
    const auto chosen = parse_device(device);
    if (chosen.is_cuda()) make_cuda_exact();
    return chosen;
}

void add_max_ratio(CLI::App& command, std::optional<double>& max_ratio) {
    command
        .add_option(
            "--max-ratio", max_ratio,
            "grids begin at the last level with sigma / alpha at most this (inf: at T); default: at T where that "
            "is at most 200 or pure noise on purpose, else 80")
        ->check(range(0.0, std::numeric_limits<double>::infinity()));
}

void add_clip_x0(CLI::App& command, std::optional<bool>& clip_x0) {
    // CLI11's own flag for an optional<bool> sets it to false when nothing is given.
    const auto set = [&](int64_t count) { clip_x0 = count > 0; };
    command.add_flag_function("--clip-x0,!--no-clip-x0", set,
                              "clamp the predicted image to [-1, 1] at each step; default: for ddpm and --eta above 0");
}

void SolverOptions::add_to(CLI::App& command) {
    command.add_option("--checkpoint", checkpoint, "checkpoint file or run folder")->required();
    command.add_option("--solver", solver, "method")
        ->check(known_name("solver", names(solvers())))
        ->capture_default_str();
    auto* steps_option = command.add_option("--steps", steps, "steps of the grid; default 20 (ddpm: every level)")
                             ->check(range<int64_t>(1, 100'000));
    command.add_option("--nfe", nfe, "instead of --steps: as many as take at most this many network evaluations")
        ->check(range<int64_t>(1, 1'000'000))
        ->excludes(steps_option);
    command.add_option("--trajectory", trajectory,
                       "write how the first images form, x_t and x0 (.png or .gif); takes "
                       "an evaluation more a step, which is not counted");
    command.add_option("--spacing", spacing, "spacing of the grid's levels")
        ->check(known_name("spacing", spacing_names()))
        ->capture_default_str();
    add_max_ratio(command, max_ratio);
    command.add_option("--weights", weights, "averaged or raw weights")
        ->check(known_name("weights", std::vector<std::string>{"ema", "raw"}))
        ->capture_default_str();
    command
        .add_option(
            "--batch", batch,
            "images worked on at once, for less memory; 0: as many as keep the machine busy (256 on a GPU); on the CPU "
            "in groups of 8, and never changes a picture; on a GPU another number may change their last digits")
        ->check(range<int64_t>(0, 1'000'000))
        ->capture_default_str();
    if (direction == Direction::kEncoding) return;
    command.add_option("--eta", eta, "ddim: share of ddpm's noise, 0 to 1; default 0")->check(range(0.0, 1.0));
    add_clip_x0(command, clip_x0);
}

void SolverOptions::check() const {
    if (eta && !kind().takes_eta) throw Error(fmt::format("--eta belongs to ddim; the solver is {}", solver));
}

Grid SolverOptions::grid(const Checkpoint& loaded) const {
    const Schedule schedule = make_schedule(loaded.config.schedule);
    const int64_t all = grid_start(schedule, max_ratio), usual = kind().stochastic ? all : std::min(kUsualSteps, all);
    const int64_t count = nfe ? std::min(all, steps_for(kind(), *nfe, direction)) : steps.value_or(usual);
    return make_grid(schedule, spacing, count, max_ratio);
}

Walk SolverOptions::walk(const Checkpoint& loaded, torch::Device device) const {
    auto levels = grid(loaded);
    const auto network = make_network(loaded, weights == "ema" ? Weights::kEma : Weights::kRaw, device);
    const auto denoiser = [network, meaning = parameterization(loaded.config.model.prediction),
                           schedule = make_schedule(loaded.config.schedule),
                           clip = clip_x0.value_or(stochastic())](std::atomic<int64_t>& evaluations) {
        const auto plain = network_denoiser(counted(network, evaluations), meaning, schedule);
        return clip ? diffuse::clip_x0(plain) : plain;
    };
    return {.solver = [make = kind().make, eta = eta.value_or(0)] { return make(eta); },
            .denoiser = denoiser,
            .grid = std::move(levels),
            .device = device,
            .threads = at::get_num_threads(),
            .most_in_flight = batch};
}

Checkpoint load_to_run(const std::string& path, torch::Device device) {
    Checkpoint checkpoint = load_checkpoint(path);
    log::debug(fmt::format("{}, step {}: {}", display_path(checkpoint_file(path)), checkpoint.step, describe(device)));
    return checkpoint;
}

void check_outputs(const std::vector<std::string>& outputs, std::vector<std::string> inputs) {
    for (const auto& path : outputs) {
        if (path.empty()) continue;
        require_writable(path);
        for (const auto& other : inputs) {
            std::error_code error;
            if (path == other || std::filesystem::equivalent(path, other, error)) {
                throw Error(fmt::format("{} would be written over {}; give it another name", path, other));
            }
        }
        inputs.push_back(path);
    }
}

TimedResult run_walk(const std::string& what, Walk walk, const torch::Tensor& x, const std::string& trajectory) {
    const Stopwatch watch;
    const int64_t steps = int64_t(walk.grid.size()) - 1, count = x.size(0);
    std::optional<Progress> progress(std::in_place, what, steps * count);
    // Groups advance on their own; their mean is what a reader of the line wants.
    walk.progress = [&](int64_t done, int64_t total) { progress->update(done * steps * count / total); };
    std::vector<Frame> frames;
    if (!trajectory.empty()) {
        walk.record = [&](const torch::Tensor& state, const torch::Tensor& x0) { frames.push_back({state, x0}); };
    }
    TimedResult result{walk_images(walk, x)};
    result.seconds = watch.seconds();
    progress.reset();
    if (!trajectory.empty()) {
        const auto last = result.images.narrow(0, 0, frames.front().x.size(0));
        frames.push_back({last, last});
        write_trajectory(trajectory, frames);
    }
    return result;
}

RoundTrip round_trip(Walk decode, const torch::Tensor& images, const std::string& trajectory) {
    Walk encode = decode;
    encode.grid = reversed(decode.grid);
    RoundTrip trip;
    trip.encoded = run_walk("encoding: step", encode, images, trajectory);
    decode.companions = trip.encoded.companions;
    trip.decoded = run_walk("decoding: step", decode, trip.encoded.images);
    const auto latents = trip.encoded.images.to(torch::kFloat64);
    trip.latent_mean = latents.mean().item<double>();
    trip.latent_std = latents.std(/*unbiased=*/false).item<double>();
    trip.mse = ((trip.decoded.images - images) / 2).to(torch::kFloat64).square().mean().item<double>();
    return trip;
}

void require_shape(const torch::Tensor& x, const ImageShape& shape, const std::string& what) {
    const bool fits = x.dim() == 4 && x.size(0) > 0 &&
                      x.sizes().slice(1) == torch::IntArrayRef{shape.channels, shape.height, shape.width};
    if (!fits || x.scalar_type() != torch::kFloat32) {
        throw Error(fmt::format("{} has shape [{}] and type {}; this checkpoint needs float32 [N, {}, {}, {}]", what,
                                fmt::join(x.sizes(), ", "), c10::toString(x.scalar_type()), shape.channels,
                                shape.height, shape.width));
    }
}

void print_result(bool as_json, const nlohmann::ordered_json& json, const std::string& text) {
    const std::string line = as_json ? to_text(json) : text;
    const bool written = std::fputs((line + "\n").c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
    if (!written) throw Error("the result cannot be written to standard output", kRunFailed);
}

}  // namespace diffuse::cli
