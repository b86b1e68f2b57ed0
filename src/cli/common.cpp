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
        ->check(ending({".png", ".gif"}));
}

Checkpoint load_to_run(const std::string& path, torch::Device device) {
    Checkpoint checkpoint = load_checkpoint(path);
    log::debug(fmt::format("{}, step {}: {}", display_path(checkpoint_file(path)), checkpoint.step, describe(device)));
    return checkpoint;
}

namespace {

/// Whether two names are of one file, be it there or not.
bool is_same(const std::filesystem::path& a, const std::filesystem::path& b) {
    std::error_code error;
    if (std::filesystem::equivalent(a, b, error)) return true;
    const auto whole = [&](const std::filesystem::path& path) {
        return std::filesystem::weakly_canonical(std::filesystem::absolute(path, error), error);
    };
    return whole(a) == whole(b);
}

}  // namespace

void check_outputs(const std::vector<std::string>& outputs, std::vector<std::string> inputs) {
    for (const auto& path : outputs) {
        if (path.empty()) continue;
        require_writable(path);
        for (const auto& other : inputs) {
            if (!other.empty() && is_same(path, other)) {
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
