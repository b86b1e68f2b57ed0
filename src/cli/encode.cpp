#include <fmt/format.h>

#include <regex>

#include "cli/common.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/tensor_file.hpp"
#include "diffuse/measure/roundtrip.hpp"
#include "diffuse/plot/png.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse::cli {
namespace {

struct Options : SamplingCommand {
    RuntimeOptions runtime;
    std::vector<std::string> inputs;
    std::string out = "latents.safetensors", png, reconstruct;
    bool json = false;
};

void check_before_work(const Options& options) {
    check(options.sampling);
    if (options.out.empty()) throw Error("--out is empty; give the safetensors file to write");
    auto inputs = options.inputs;
    inputs.push_back(checkpoint_file(options.checkpoint).string());
    check_outputs({options.out, options.png, options.reconstruct, options.trajectory}, inputs);
}

torch::Tensor read_picture(const std::string& path, const ImageShape& shape) {
    auto image = without_alpha(read_png(path), path);
    if (shape.channels == 1) {
        const bool rgb = image.size(0) == 3;
        image = to_grey(image, path);
        if (rgb) log::info(fmt::format("{}: grey in RGB, taken as one channel", path));
    }
    const ImageShape found{image.size(0), image.size(1), image.size(2)};
    if (found != shape) {
        throw Error(fmt::format("{} is {}x{} with {} channels; this checkpoint needs {}x{} with {}", path, found.width,
                                found.height, found.channels, shape.width, shape.height, shape.channels));
    }
    return image.unsqueeze(0);
}

/// "mnist:test[A:B]": images A to B-1 of a split; either end may be left out.
std::optional<torch::Tensor> read_split(const std::string& input, DatasetOptions options, const ImageShape& shape) {
    static const std::regex pattern(R"(([a-z0-9-]+):(train|test)(\[(\d{0,9}):(\d{0,9})\])?)");
    std::smatch match;
    if (!std::regex_match(input, match, pattern)) return std::nullopt;
    if (match[1] != options.kind) options = DatasetOptions{.kind = match[1], .dir = {}};
    const Dataset dataset = load_dataset(options, match[2] == "train" ? Split::kTrain : Split::kTest);
    const int64_t begin = match[4].length() ? std::stoll(match[4]) : 0;
    const int64_t end = match[5].length() ? std::stoll(match[5]) : dataset.size();
    if (begin >= end || end > dataset.size()) {
        throw Error(fmt::format("--input {}: expected 0 <= A < B <= {}", input, dataset.size()));
    }
    if (dataset.shape() != shape)
        throw Error(fmt::format("--input {}: its images are not of the size this checkpoint needs", input));
    return dataset.images.narrow(0, begin, end - begin);
}

/// All inputs, in order, as float32 [N, C, H, W] in [-1, 1].
torch::Tensor read_inputs(const Options& options, const Checkpoint& checkpoint) {
    std::vector<torch::Tensor> images;
    for (const auto& input : options.inputs) {
        const auto split = read_split(input, checkpoint.config.dataset, checkpoint.shape);
        images.push_back(split ? *split : read_picture(input, checkpoint.shape));
    }
    return to_signed(torch::cat(images));
}

/// With the options that decode them to the images again.
void write_latents(const Options& options, const Samples& encoded, int64_t steps) {
    SampleOptions sampling = options.sampling;
    sampling.steps = steps;
    sampling.nfe.reset();
    auto json = to_json(fields(sampling));
    json.erase("batch");
    TensorFile file{{{"latents", encoded.x}}, {{kSamplingKey, to_text(json)}}};
    if (encoded.second_states.defined()) file.tensors["second_states"] = encoded.second_states;
    write_tensor_file(options.out, file);
}

void write_files(const Options& options, const torch::Tensor& images, const RoundTrip& trip, int64_t steps) {
    const int64_t columns = images.size(0);
    const auto latents = trip.encoded.x / 3;
    write_latents(options, trip.encoded, steps);
    if (!options.png.empty()) write_png(options.png, tile(to_bytes(latents), columns));
    if (options.reconstruct.empty()) return;
    write_png(options.reconstruct, tile(to_bytes(torch::cat({images, latents, trip.decoded.x})), columns));
}

void print(const Options& options, const RoundTrip& trip, int64_t steps) {
    nlohmann::ordered_json json;
    json["num"] = trip.encoded.x.size(0);
    json["solver"] = options.sampling.solver;
    json["steps"] = steps;
    json["nfe"] = trip.encoded.nfe;
    json["latent_mean"] = trip.latent_mean;
    json["latent_std"] = trip.latent_std;
    json["roundtrip_mse"] = trip.mse;
    json["seconds"] = trip.encoded.seconds;
    print_result(options.json, json,
                 fmt::format("{} images by {} in {} steps ({} network evaluations each): {:.1f} s\n"
                             "latents: mean {:.4f}, standard deviation {:.4f}\n"
                             "round trip: mean squared error {:.3g} per pixel in [0, 1]",
                             trip.encoded.x.size(0), options.sampling.solver, steps, trip.encoded.nfe,
                             trip.encoded.seconds, trip.latent_mean, trip.latent_std, trip.mse),
                 {{"latents", options.out},
                  {"png", options.png},
                  {"reconstruct", options.reconstruct},
                  {"trajectory", options.trajectory}});
}

void run(const Options& options) {
    check_before_work(options);
    const auto device = options.runtime.apply();
    const Checkpoint checkpoint = load_to_run(options.checkpoint, device);
    const auto images = read_inputs(options, checkpoint);
    const Model model = make_model(checkpoint, options.sampling.weights, device);
    const Sampler decode = make_sampler(options.sampling, model, device);
    const int64_t steps = int64_t(decode.grid.size()) - 1;
    const RoundTrip trip = round_trip(decode, images, options.trajectory);
    write_files(options, images, trip, steps);
    print(options, trip, steps);
}

}  // namespace

void add_encode(CLI::App& app) {
    auto options = std::make_shared<Options>();
    auto* command = app.add_subcommand("encode", "turn images into their noise, and measure the way back");
    options->sampling.direction = Direction::kEncoding;
    options->add_to(*command);
    command->add_option("--input", options->inputs, "PNG files, or a part of a data set: mnist:test[A:B]")->required();
    command->add_option("--out", options->out, "safetensors file for 'latents', float32 [N, C, H, W]")
        ->check(ending({".safetensors"}))
        ->capture_default_str();
    command->add_option("--png", options->png, "write the latents as a picture, from -3 (black) to 3 (white)")
        ->check(ending({".png"}));
    command
        ->add_option("--reconstruct", options->reconstruct,
                     "write a picture with three rows: originals, latents, reconstructions")
        ->check(ending({".png"}));
    command->add_flag("--json", options->json, "print the result as one JSON object");
    options->runtime.add_to(*command);
    command->callback([options] { run(*options); });
}

}  // namespace diffuse::cli
