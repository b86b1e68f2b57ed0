#include <fmt/format.h>
#include <torch/version.h>

#include <cstdio>

#include "common.hpp"
#include "diffuse/error.hpp"

namespace {

/// One line for whatever the command line got wrong.
int usage_error(const CLI::App& app, const CLI::ParseError& error) {
    std::string message = error.what();
    std::replace(message.begin(), message.end(), '\n', ' ');
    const auto chosen = app.get_subcommands();
    const std::string command = chosen.empty() ? "diffuse" : "diffuse " + chosen.front()->get_name();
    fmt::print(stderr, "error: {} (see {} --help)\n", message, command);
    return diffuse::kBadInput;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("diffuse trains, samples and inverts small diffusion models.", "diffuse");
    app.set_version_flag("--version", "diffuse " DIFFUSE_VERSION " (LibTorch " TORCH_VERSION ")");
    app.require_subcommand(1);
    diffuse::cli::add_train(app);
    diffuse::cli::add_sample(app);
    diffuse::cli::add_encode(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return error.get_exit_code() == 0 ? app.exit(error) : usage_error(app, error);
    } catch (const diffuse::Error& error) {
        fmt::print(stderr, "error: {}\n", error.what());
        return error.exit_code;
    } catch (const std::exception& error) {  // memory that cannot be had, and what LibTorch refuses
        const std::string_view message = error.what();
        fmt::print(stderr, "error: {}\n", message.substr(0, message.find('\n')));
        return diffuse::kRunFailed;
    }
    return diffuse::kSuccess;
}
