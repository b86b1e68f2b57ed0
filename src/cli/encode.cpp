#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <regex>

#include "cli/sampling_command.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/data/csv.hpp"
#include "diffuse/data/image.hpp"
#include "diffuse/data/png.hpp"
#include "diffuse/measure/roundtrip.hpp"
#include "diffuse/plot/sheet.hpp"

namespace diffuse::cli {
namespace {

constexpr const char* kEncoded = "What is encoded";
constexpr uintmax_t kMaxImageBytes = uintmax_t{1} << 28;

struct EncodeCommand : SamplingCommand {
    std::vector<std::string> inputs;
    std::string data;
    std::string out = "latents.safetensors", png, reconstruct;

    Files files() const {
        return {{"latents", out}, {"png", png}, {"reconstruct", reconstruct}, {"trajectory", trajectory}};
    }
};

void check_before_work(const EncodeCommand& options) {
    check(options.sampling);
    auto inputs = options.inputs;
    inputs.push_back(checkpoint_file(options.checkpoint).string());
    inputs.push_back(options.sampling.guide);
    check_outputs(options.files(), inputs);
}

/// An image as the data that the network was trained on were made: see `ImageRule`. What that changes is said.
torch::Tensor read_image(const std::string& path, const Checkpoint& checkpoint) {
    const ExampleShape& shape = checkpoint.data.shape;
    const ImageRule rule{shape.channels, shape.height, shape.width, parse_colour(checkpoint.config.dataset.background)};
    const auto [decoded, converted, remark] = decode_image(read_file(path, kMaxImageBytes), path);
    if (converted) log::info(fmt::format("{}: converted to sRGB from the colours that it tells", path));
    if (!remark.empty()) log::warn(fmt::format("{}: {}", path, remark));
    const bool in_colour = decoded.size(0) >= 3;
    const bool to_grey = checkpoint.config.dataset.channels == 1;  // as its data were made
    if (rule.channels == 1 && !to_grey && in_colour && has_colours(decoded.narrow(0, 0, 3))) {
        throw Error(fmt::format("{}: is in colour, and the network draws in grey", path));
    }
    const auto image = with_channels(decoded, rule, path);
    if (rule.channels == 1 && in_colour) {
        log::info(fmt::format("{}: {}", path, to_grey ? "RGB, taken as grey" : "grey in RGB, taken as one channel"));
    }
    if (rule.channels == 3 && !in_colour) log::info(fmt::format("{}: grey, taken as RGB", path));
    const int64_t height = image.size(1), width = image.size(2);
    if (height != rule.height || width != rule.width) {
        const bool smaller = height < rule.height || width < rule.width;
        log::info(fmt::format("{}: {}x{} pixels (height x width), cropped around the middle and {} to {}x{}", path,
                              height, width, smaller ? "enlarged" : "averaged", rule.height, rule.width));
    }
    return fitted(image, rule.height, rule.width).unsqueeze(0);
}

/// "mnist:test[A:B]": images A to B-1 of a split; either end may be left out.
std::optional<Dataset> read_split(const std::string& input, const EncodeCommand& command,
                                  const Checkpoint& checkpoint) {
    static const std::regex pattern(R"(([a-z0-9-]+):(train|test)(\[(\d{0,9}):(\d{0,9})\])?)");
    std::smatch match;
    if (!std::regex_match(input, match, pattern)) return std::nullopt;
    DatasetOptions options = data_of(checkpoint, command.data);
    if (match[1] != options.kind) options = DatasetOptions{.kind = match[1], .dir = command.data};
    const Dataset loaded = load_dataset(options, match[2] == "train" ? Split::kTrain : Split::kTest);
    const Dataset dataset = in_terms_of(checkpoint.data, loaded, "--input " + input);
    const int64_t begin = match[4].length() ? std::stoll(match[4]) : 0;
    const int64_t end = match[5].length() ? std::stoll(match[5]) : dataset.size();
    if (begin >= end || end > dataset.size()) {
        throw Error(fmt::format("--input {}: expected 0 <= A < B <= {}", input, dataset.size()));
    }
    if (dataset.spec.shape != checkpoint.data.shape) {
        throw Error(fmt::format("--input {}: its {}s are not of the size this checkpoint needs", input,
                                noun(dataset.spec.shape)));
    }
    return dataset.part(begin, end - begin);
}

/// Says of numbers that lie further from those of the training than these from one another.
void warn_of_far(const Column& column, const torch::Tensor& values, const std::string& path) {
    if (!column.range) return;
    const auto [least, most] = *column.range;
    const double width = most - least;
    const auto far = values.lt(least - width).logical_or(values.gt(most + width));
    if (!far.any().item<bool>()) return;
    log::warn(
        fmt::format("{}: column '{}' has {:g}, far from the numbers of the training, {:g} to {:g}: what comes of "
                    "it means nothing",
                    path, column.name, values.masked_select(far)[0].item<double>(), least, most));
}

/// The points of a CSV file with all columns that the network was trained on, in whatever order.
Dataset read_points(const std::string& path, const Checkpoint& checkpoint) {
    const Columns& numbers = checkpoint.data.condition.numbers;
    CsvRule rule{.only = names(checkpoint.data.codec.columns), .skip_gaps = checkpoint.config.dataset.skip_bad};
    for (const auto& column : numbers) rule.only.push_back(column.name);
    const NumberTable table = read_csv(path, rule);
    if (table.gaps > 0) log::warn(fmt::format("{}: {} rows with gaps are skipped", path, table.gaps));
    const auto taken = [&](const Columns& columns) {
        std::vector<torch::Tensor> values;
        for (const auto& column : columns) {
            const auto found = std::ranges::find(table.columns, column.name);
            if (found == table.columns.end()) {
                throw Error(fmt::format("{}: it has no column '{}'; the network was trained on {}", path, column.name,
                                        fmt::join(names(columns), ", ")));
            }
            values.push_back(table.values.select(1, found - table.columns.begin()));
            if (column.bounds) require_within(*column.bounds, values.back(), table.lines, column.name, path);
            warn_of_far(column, values.back(), path);
        }
        return standardised(torch::stack(values, 1), columns);
    };
    return {taken(checkpoint.data.codec.columns), {.numbers = numbers.empty() ? torch::Tensor() : taken(numbers)}};
}

Dataset read_file_of(const std::string& path, const Checkpoint& checkpoint) {
    if (checkpoint.data.shape.points) return read_points(path, checkpoint);
    return {read_image(path, checkpoint)};
}

/// All inputs, in order: float32 [N, ...] as the network sees them, and what is known of them.
struct Inputs {
    torch::Tensor x;
    Condition condition;
};
Inputs read_inputs(const EncodeCommand& options, const Checkpoint& checkpoint) {
    const int64_t no_class = checkpoint.data.condition.classes.count;
    std::vector<torch::Tensor> examples, classes, numbers;
    for (const auto& input : options.inputs) {
        const auto split = read_split(input, options, checkpoint);
        const Dataset some = split ? *split : read_file_of(input, checkpoint);
        examples.push_back(some.examples);
        const auto& [labels, row] = some.condition;
        classes.push_back(labels.defined() ? labels : torch::full({some.size()}, no_class, torch::kInt64));
        if (row.defined()) numbers.push_back(row);
    }
    const Condition all{torch::cat(classes), numbers.empty() ? torch::Tensor() : torch::cat(numbers)};
    return {to_network(torch::cat(examples)), checkpoint.data.condition.taken(all)};
}

/// Each example's own numbers or class, or as the command line says; nothing where all are of no class.
Condition condition_of_inputs(const EncodeCommand& options, const Condition& own, int64_t count,
                              const ConditionSpec& known) {
    if (own.numbers.defined()) return own;
    if (options.sampling.classes != "own") return known.of_classes(options.sampling.classes, count);
    const bool none = !own.classes.defined() || own.classes.eq(known.classes.count).all().item<bool>();
    return none ? Condition() : own;
}

/// Latents are written with the options that decode them to the images again.
void write_all(const EncodeCommand& options, const torch::Tensor& images, const Condition& condition,
               const RoundTrip& trip, const PngTexts& origin) {
    TensorFile latents_file{{{"latents", trip.encoded.x}}, {}};
    if (trip.encoded.second_states.defined()) latents_file.tensors["second_states"] = trip.encoded.second_states;
    write_examples(options.out, latents_file, condition, origin);
    if (images.dim() == 2) return;  // points
    const int64_t scale = sheet_scale(options.scale, images.size(2), images.size(3));
    const auto latents = to_bytes(trip.encoded.x / 3);
    const PngTexts texts = options.with_command(origin);
    if (!options.png.empty()) write_png(options.png, captioned_sheet({latents}, {"latents"}, scale), texts);
    if (options.reconstruct.empty()) return;
    const std::vector<torch::Tensor> rows = {to_bytes(images), latents, to_bytes(trip.decoded.x)};
    write_png(options.reconstruct, captioned_sheet(rows, {"originals", "latents", "reconstructions"}, scale), texts);
}

/// Throws Error where the images would be too large.
void check_size(const EncodeCommand& options, const torch::Tensor& images) {
    if (options.png.empty() && options.reconstruct.empty()) return;
    const int64_t scale = sheet_scale(options.scale, images.size(2), images.size(3));
    require_sheet(3 * images.size(0), 16, images.size(2), images.size(3), scale);
}

Result tell(const EncodeCommand& options, const RoundTrip& trip, int64_t steps) {
    const TimedSamples& encoded = trip.encoded;
    nlohmann::ordered_json json = options.json_of(encoded, steps);
    json["latent_mean"] = trip.latent_mean;
    json["latent_std"] = trip.latent_std;
    json["roundtrip_mse"] = trip.mse.value;
    json["seconds"] = encoded.seconds;
    return result_of(
        options.json, json,
        fmt::format("{}: {:.1f} s\n"
                    "latents: mean {:.4f}, standard deviation {:.4f}\n"
                    "round trip: mean squared error {:.3g} per {}",
                    options.text_of(encoded, steps, "network evaluation"), encoded.seconds, trip.latent_mean,
                    trip.latent_std, trip.mse.value, encoded.x.dim() == 2 ? "standardised number" : "pixel in [0, 1]"),
        options.files());
}

Result run_encode(const EncodeCommand& options, const Given& given) {
    check_before_work(options);
    const auto device = options.runtime.apply();
    const Checkpoint checkpoint = load_to_run(options.checkpoint, device);
    check_kind(given, checkpoint.data.shape, {"png", "reconstruct", "trajectory", "scale"});
    const auto [x, known] = read_inputs(options, checkpoint);
    check_size(options, x);
    const Model model = make_model(checkpoint, options.sampling.weights, device);
    Sampler decode = make_sampler(options.sampling, model, load_guide(options.sampling, device));
    decode.condition = condition_of_inputs(options, known, x.size(0), checkpoint.data.condition);
    check_guidance(options.sampling, decode.condition);
    const int64_t steps = std::ssize(decode.grid) - 1;
    const PngTexts origin = options.origin({"checkpoint", display_path(checkpoint_file(options.checkpoint))}, steps,
                                           model.data.shape, identity(checkpoint, options.sampling.weights));
    const RoundTrip trip = round_trip(decode, x, {options.trajectory, options.scale, options.with_command(origin)});
    write_all(options, x, decode.condition, trip, origin);
    return tell(options, trip, steps);
}

std::vector<Option> what_is_encoded(EncodeCommand& o) {
    Option checkpoint = checkpoint_option(o.checkpoint);
    checkpoint.required = true;
    return grouped(kEncoded, {checkpoint,
                              {.field = {"input", Words{&o.inputs},
                                         "PNG or JPEG files, CSV files of points, or a part of a data set: "
                                         "mnist:test[A:B]"},
                               .value = "INPUT",
                               .required = true},
                              data_option(o.data)});
}

std::vector<Option> options_of_encode(EncodeCommand& o) {
    const auto written = grouped(
        kWritten,
        {file_option({"out", &o.out, "safetensors file to write: 'latents', float32 [N, C, H, W], or [N, D] of points"},
                     {".safetensors"}),
         file_option({"png", &o.png, "image of the latents to write, from -3 (black) to 3 (white)"}, {".png"}),
         file_option(
             {"reconstruct", &o.reconstruct, "image to write with three rows: originals, latents, reconstructions"},
             {".png"})});
    return joined({what_is_encoded(o), sampling_options(o.sampling, kEncoded), written, o.rest()});
}

}  // namespace

Command encode_command(const std::string& line) {
    EncodeCommand start;
    start.command_line = line;
    start.sampling.direction = Direction::kEncoding;
    start.sampling.classes = "own";
    return command_of({.name = "encode",
                       .about = "turn examples into their noise, and measure the way back",
                       .examples = {"diffuse encode --checkpoint runs/demo --input 'mnist:test[0:8]'",
                                    "diffuse encode --checkpoint runs/demo --input 'mnist:test[0:8]' --png l.png"}},
                      start, options_of_encode, run_encode);
}

}  // namespace diffuse::cli
