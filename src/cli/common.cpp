#include "cli/common.hpp"

#include <fmt/ranges.h>

#include <cstdio>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/run/machine.hpp"

namespace diffuse::cli {

void SamplingCommand::add_to(CLI::App& command) {
    command.add_option("--checkpoint", checkpoint, "checkpoint file or run folder")->required();
    add_options(command, fields(sampling));
    command.get_option("--nfe")->excludes("--steps");
    command
        .add_option("--trajectory", trajectory,
                    "file (.png or .gif) for how the first images form, x_t and x0; takes an evaluation more a step, "
                    "which is not counted")
        ->check(CLI::Validator(
            [](std::string& path) {
                const bool known = path.ends_with(".png") || path.ends_with(".gif");
                return known ? "" : fmt::format("'{}' ends neither in .png nor in .gif", path);
            },
            ""));
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

void require_shape(const torch::Tensor& x, const ImageShape& shape, const std::string& what) {
    const bool fits = x.dim() == 4 && x.size(0) > 0 && x.sizes().slice(1) == torch::IntArrayRef(shape.sizes());
    if (!fits || x.scalar_type() != torch::kFloat32) {
        throw Error(fmt::format("{} has shape [{}] and type {}; this checkpoint needs float32 [N, {}, {}, {}]", what,
                                fmt::join(x.sizes(), ", "), c10::toString(x.scalar_type()), shape.channels,
                                shape.height, shape.width));
    }
}

void print_result(bool as_json, const nlohmann::ordered_json& json, const std::string& text, const Files& files) {
    nlohmann::ordered_json all = files.empty() ? json : nlohmann::ordered_json::object();
    std::string lines = text;
    for (const auto& [key, path] : files) {
        if (path.empty()) continue;
        all[key] = display_path(path);
        lines += "\n" + display_path(path);
    }
    if (!files.empty()) all.update(json);
    const bool written =
        std::fputs(((as_json ? to_text(all) : lines) + "\n").c_str(), stdout) >= 0 && std::fflush(stdout) == 0;
    if (!written) throw Error("the result cannot be written to standard output", kRunFailed);
}

}  // namespace diffuse::cli
