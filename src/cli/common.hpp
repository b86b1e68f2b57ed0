#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "diffuse/base/progress.hpp"
#include "diffuse/run/checkpoint.hpp"
#include "diffuse/solve/sampler.hpp"

namespace diffuse::cli {

void add_train(CLI::App& app);
void add_sample(CLI::App& app);
void add_encode(CLI::App& app);
void add_info(CLI::App& app);
void add_eval(CLI::App& app);

/// The best at 10 to 20 network evaluations (docs/solvers.md).
inline constexpr const char* kUsualSolver = "unipc";

/// --device, --threads, --quiet and --verbose
struct RuntimeOptions {
    std::string device = "auto";
    int64_t threads = 0;
    bool quiet = false, verbose = false;
    void add_to(CLI::App& command);
    torch::Device apply() const;
};

/// What sampling and encoding have in common: a checkpoint, a solver and its grid.
struct SolverOptions {
    std::string checkpoint, solver = kUsualSolver, spacing = "uniform", weights = "ema";
    std::optional<int64_t> steps, nfe;
    std::optional<double> max_ratio;
    std::string trajectory;
    std::optional<double> eta;
    std::optional<bool> clip_x0;
    int64_t batch = 0;
    Direction direction = Direction::kSampling;

    /// Those of sampling or, without what stochastic solvers need, of encoding.
    void add_to(CLI::App& command);
    /// Refuses what cannot be right whatever the checkpoint.
    void check() const;
    const SolverKind& kind() const { return look_up("solver", solvers(), solver); }
    bool stochastic() const { return kind().stochastic || eta.value_or(0) > 0; }
    /// The levels down to 0 as asked.
    Grid grid(const Checkpoint& loaded) const;
    /// The walk down to 0 as asked, with the checkpoint's network on `device`.
    Walk walk(const Checkpoint& loaded, torch::Device device) const;
};

/// The checkpoint of a file or run folder; what it is, and what it will run on, is logged.
Checkpoint load_to_run(const std::string& path, torch::Device device);

/// Throws Error when an output could not be written, or would overwrite another one or an input. Empty paths are none.
void check_outputs(const std::vector<std::string>& outputs, std::vector<std::string> inputs);

/// A check for CLI11: a number from `low` to `high`. CLI11's own lets NaN pass, and takes numbers that are too large
/// for their type for the largest there is.
template <class T>
CLI::Validator range(T low, T high) {
    const auto check = [=](std::string& text) {
        T value;
        const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool inside = problem == std::errc() && *end == '\0' && value >= low && value <= high;
        const char* kind = std::is_integral_v<T> ? "a whole number" : "a number";
        return inside ? "" : fmt::format("'{}' is not {} from {} to {}", text, kind, low, high);
    };
    return CLI::Validator(check, fmt::format("{}..{}", low, high));
}

void add_max_ratio(CLI::App& command, std::optional<double>& max_ratio);

/// "--clip-x0" and "--no-clip-x0"; neither leaves the choice to the solver.
void add_clip_x0(CLI::App& command, std::optional<bool>& clip_x0);

/// A check for CLI11: the name must be a known one.
CLI::Validator known_name(const std::string& kind, std::vector<std::string> known);

/// Runs a walk with a progress line called `what`, and says how long it took. `trajectory`: a file for how the first
/// images form, or empty.
struct TimedResult : WalkResult {
    double seconds = 0;
};
TimedResult run_walk(const std::string& what, Walk walk, const torch::Tensor& x, const std::string& trajectory = "");

/// Images walked up a grid to their latents and down again.
struct RoundTrip {
    TimedResult encoded, decoded;
    double latent_mean = 0, latent_std = 0;
    double mse = 0;  ///< of the way there and back, per pixel in [0, 1]
};
RoundTrip round_trip(Walk decode, const torch::Tensor& images, const std::string& trajectory = "");

/// Throws unless x is float32 [N, C, H, W] with the image shape of the checkpoint; `what` names it.
void require_shape(const torch::Tensor& x, const ImageShape& shape, const std::string& what);

/// The result: to stdout as one JSON object, or as lines of text.
void print_result(bool as_json, const nlohmann::ordered_json& json, const std::string& text);

}  // namespace diffuse::cli
