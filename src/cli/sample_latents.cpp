#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/sample.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"

namespace diffuse::cli {
namespace {

/// A tensor of what is known of each of the latents. Throws Error where it is not of this shape and type.
torch::Tensor known_of_each(const Latents& latents, const char* name, const std::vector<int64_t>& shape,
                            torch::ScalarType type) {
    const auto& found = latents.file.at(name, latents.path);
    if (found.scalar_type() == type && found.sizes() == shape) return found;
    throw Error(fmt::format("{}: its '{}' are not {} [{}]; say them on the command line", latents.path, name,
                            c10::toString(type), fmt::join(shape, ", ")));
}

}  // namespace

std::optional<SampleOptions> Latents::made_by() const {
    const auto stored = file.metadata.find(kSamplingKey);
    if (stored == file.metadata.end()) return std::nullopt;
    const std::string what = fmt::format("{}: its '{}'", path, kSamplingKey);
    SampleOptions options;
    read(fields(options), parse_json(stored->second, what), what);
    return options;
}

bool Latents::has_classes(const ConditionSpec& known) const {
    return file.tensors.contains("classes") && known.classes.count > 0;
}

void Latents::warn_of_other_network(const std::string& own) const {
    const auto stored = file.metadata.find(kWeightsKey);
    if (stored == file.metadata.end() || stored->second == own) return;
    log::warn(fmt::format("{}: made with another network ({}), decoded with {}", path, stored->second, own));
}

torch::Tensor Latents::examples(const std::string& name, const ExampleShape& shape) const {
    auto x = file.at(name, path);
    if (x.is_floating_point() && x.scalar_type() != torch::kFloat32) {
        log::info(fmt::format("{}: its {} are {}, taken as float32", path, name, c10::toString(x.scalar_type())));
        x = x.to(torch::kFloat32);
    }
    const auto sizes = shape.sizes();
    const bool fits = x.dim() == std::ssize(sizes) + 1 && x.size(0) > 0 && x.sizes().slice(1) == sizes;
    if (!fits || x.scalar_type() != torch::kFloat32) {
        throw Error(fmt::format("{} has shape [{}] and type {}; this checkpoint needs float32 [N, {}]", path,
                                fmt::join(x.sizes(), ", "), c10::toString(x.scalar_type()), fmt::join(sizes, ", ")));
    }
    if (x.isfinite().all().item<bool>()) return x;
    throw Error(fmt::format("{}: its {} are not all finite; encode the images again", path, name));
}

Condition Latents::condition(const SampleCommand& options, const ConditionSpec& known, int64_t count) const {
    if (!known.numbers.empty()) {
        if (!options.condition.empty()) return known.of_numbers(options.condition, count);
        return {.numbers = known_of_each(*this, "given", {count, std::ssize(known.numbers)}, torch::kFloat32)};
    }
    if (options.given.contains("class")) return known.of_classes(options.sampling.classes, count);
    if (!has_classes(known)) return {};
    const auto classes = known_of_each(*this, "classes", {count}, torch::kInt64);
    const bool in_range = classes.ge(0).all().item<bool>() && classes.le(known.classes.count).all().item<bool>();
    if (in_range) return {.classes = classes};
    throw Error(fmt::format("{}: its 'classes' are not from 0 to {}; say them by --class", path, known.classes.count));
}

}  // namespace diffuse::cli
