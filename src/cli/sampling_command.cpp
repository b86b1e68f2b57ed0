#include "cli/sampling_command.hpp"

#include <fmt/format.h>

namespace diffuse::cli {

std::vector<Option> sampling_options(SampleOptions& sampling, const char* group_of_class) {
    auto options = options_of(fields(sampling), kHow);
    for (auto& option : options) {
        const std::string& key = option.field.key;
        option.instead = {"sample." + key};
        if (key == "class") option.group = group_of_class;
        if (key == "nfe") option.excludes = {"steps"};
        if (key == "batch") option.group = kMachine;
        if (key == "guide") option.value = "RUN";
        const bool is_of_checkpoint = key == "solver" || key == "guidance";
        if (is_of_checkpoint && sampling.direction == Direction::kSampling) {
            option.field.by_default = fmt::format("the checkpoint's, else {}", option.default_value());
        }
    }
    return options;
}

nlohmann::json said_of(const Given& given, SampleOptions options) {
    nlohmann::json said = nlohmann::json::object();
    for (const auto& field : fields(options)) {
        if (given.contains(field.key)) said[field.key] = value_of(field);
    }
    return said;
}

std::vector<Option> SamplingCommand::rest() {
    const Option films = file_option({"trajectory", &trajectory,
                                      "file (.png or .gif) for how the first images form, x_t and x0; takes an "
                                      "evaluation more a step, which is not counted"},
                                     {".png", ".gif"});
    const Option size = {.field = {.key = "scale",
                                   .value = Number<std::optional<int64_t>>{&scale, 1, 64},
                                   .meaning = "pixels a side that a pixel is shown as in images",
                                   .by_default = "2 for images under 64 pixels, else 1"}};
    return joined({grouped(kWritten, {films, size, json_option(json)}), runtime.options()});
}

PngTexts SamplingCommand::origin(const std::pair<std::string, std::string>& made_from, int64_t steps,
                                 const ExampleShape& shape, const std::string& network) const {
    PngTexts texts = {{"Software", "diffuse " DIFFUSE_VERSION}, made_from};
    for (const auto& text : origin_of(sampling, steps, shape, network)) texts.push_back(text);
    return texts;
}

PngTexts SamplingCommand::with_command(PngTexts origin) const {
    origin.insert(origin.begin() + 1, {"command", command_line});
    return origin;
}

nlohmann::ordered_json SamplingCommand::json_of(const Samples& made, int64_t steps) const {
    return {{"num", made.x.size(0)}, {"solver", sampling.solver}, {"steps", steps}, {"nfe", made.nfe}};
}

std::string SamplingCommand::text_of(const Samples& made, int64_t steps, const std::string& evaluation) const {
    return fmt::format("{} by {} in {} ({} each)", plural(made.x.size(0), made.x.dim() == 2 ? "point" : "image"),
                       sampling.solver, plural(steps, "step"), plural(made.nfe, evaluation));
}

void write_examples(const std::string& path, TensorFile file, const Condition& condition, const PngTexts& origin) {
    file.metadata.insert(origin.begin(), origin.end());
    if (condition.classes.defined()) file.tensors["classes"] = condition.classes;
    if (condition.numbers.defined()) file.tensors["given"] = condition.numbers;
    write_tensor_file(path, file);
}

}  // namespace diffuse::cli
