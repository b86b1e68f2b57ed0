#include <fmt/format.h>

#include <cmath>

#include "cli/common.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/plot/image.hpp"

namespace diffuse::cli {
namespace {

struct Options {
    SolverOptions solver;
    RuntimeOptions runtime;
    std::optional<int64_t> num;
    int64_t seed = 0, columns = 0;
    bool show_grid = false;
    std::string out = "samples.png", tensors, latents;
    bool json = false;
};

void check_before_work(const Options& options) {
    options.solver.check();
    if (options.out.empty()) throw Error("--out is empty; give the PNG file to write");
    check_outputs({options.out, options.tensors, options.solver.trajectory},
                  {checkpoint_file(options.solver.checkpoint).string(), options.latents});
}

/// What sampling starts from: the latents of a file, or noise; and the companions of a reversible solver, if any.
struct Start {
    torch::Tensor x, companions;
};

Start starting_noise(const Options& options, const ImageShape& shape) {
    if (options.latents.empty()) {
        return {sampling_noise(uint64_t(options.seed), 0, options.num.value_or(64),
                               {shape.channels, shape.height, shape.width}, 0),
                {}};
    }
    const TensorFile file = read_tensor_file(options.latents);
    const auto latents = file.at("latents", options.latents);
    require_shape(latents, shape, options.latents);
    const bool reversible = options.solver.kind().make(0)->companion() != nullptr;
    const auto companions = reversible ? file.at("companions", options.latents) : torch::Tensor();
    if (reversible) require_shape(companions, shape, options.latents);
    if (reversible && companions.size(0) != latents.size(0)) {
        throw Error(
            fmt::format("{}: {} latents but {} companions", options.latents, latents.size(0), companions.size(0)));
    }
    if (options.num && *options.num != latents.size(0)) {
        throw Error(fmt::format("--num {} contradicts --latents: {} holds {}; leave --num out", *options.num,
                                options.latents, latents.size(0)));
    }
    return {latents, companions};
}

/// The levels that a walk goes through, as a table.
void show_grid(const Grid& grid, bool as_json) {
    nlohmann::ordered_json json = nlohmann::ordered_json::array();
    std::string text = "        t        alpha        sigma  sigma / alpha    log-SNR";
    for (const auto& level : grid) {
        json.push_back({{"t", level.t}, {"alpha", level.alpha}, {"sigma", level.sigma}, {"ratio", level.ratio()}});
        if (level.sigma > 0) json.back()["log_snr"] = level.log_snr();
        text += fmt::format("\n{:9.3f}  {:11.8f}  {:11.8f}  {:13.6f}  {:9.4f}", level.t, level.alpha, level.sigma,
                            level.ratio(), level.log_snr());
    }
    print_result(as_json, json, text);
}

void run(const Options& options) {
    check_before_work(options);
    const auto device = options.runtime.apply();
    const Checkpoint checkpoint = load_to_run(options.solver.checkpoint, device);
    if (options.show_grid) return show_grid(options.solver.grid(checkpoint), options.json);
    const auto [start, companions] = starting_noise(options, checkpoint.shape);
    Walk walk = options.solver.walk(checkpoint, device);
    walk.companions = companions;
    walk.seed = uint64_t(options.seed);
    auto result = run_walk("sampling: step", walk, start, options.solver.trajectory);
    result.images.clamp_(-1, 1);  // without --clip-x0 a pixel may end a little outside

    const int64_t count = start.size(0), steps = int64_t(walk.grid.size()) - 1;
    const int64_t columns = options.columns > 0 ? options.columns : int64_t(std::ceil(std::sqrt(double(count))));
    write_png(options.out, tile(to_bytes(result.images), columns));
    if (!options.tensors.empty()) write_tensor_file(options.tensors, {{{"images", result.images}}, {}});

    nlohmann::ordered_json json;
    json["png"] = display_path(options.out);
    if (!options.tensors.empty()) json["tensors"] = display_path(options.tensors);
    json["num"] = count;
    json["solver"] = options.solver.solver;
    json["steps"] = steps;
    json["nfe"] = result.nfe;
    json["seed"] = options.seed;
    json["seconds"] = result.seconds;
    json["images_per_second"] = double(count) / result.seconds;
    std::string text =
        fmt::format("{} images by {} in {} steps ({} network evaluations each): {:.1f} s, {:.1f} images/s\n{}", count,
                    options.solver.solver, steps, result.nfe, result.seconds, double(count) / result.seconds,
                    display_path(options.out));
    if (!options.tensors.empty()) text += "\n" + display_path(options.tensors);
    print_result(options.json, json, text);
}

}  // namespace

void add_sample(CLI::App& app) {
    auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand("sample", "draw images from noise");
    options->solver.add_to(*command);
    command->add_option("--seed", options->seed, "of the noise")
        ->check(range<int64_t>(0, INT64_MAX))
        ->capture_default_str();
    command->add_option("--num", options->num, "how many images; default 64")->check(range<int64_t>(1, 1'000'000));
    command->add_option("--latents", options->latents,
                        "start from this file's 'latents' (what encode writes) instead of noise");
    command->add_option("--out", options->out, "PNG grid to write")->capture_default_str();
    command->add_option("--columns", options->columns, "of the grid; 0: as many as rows")
        ->check(range<int64_t>(0, 10'000))
        ->capture_default_str();
    command->add_option("--save-tensors", options->tensors,
                        "also write 'images', float32 [N, C, H, W] in [-1, 1], to this safetensors file");
    command->add_flag("--show-grid", options->show_grid,
                      "print t, alpha, sigma, their ratio and log-SNR of the levels, and stop");
    command->add_flag("--json", options->json, "print the result as one JSON object");
    options->runtime.add_to(*command);
    command->callback([options] { run(*options); });
}

}  // namespace diffuse::cli
