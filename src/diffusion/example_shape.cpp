#include "diffuse/diffusion/example_shape.hpp"

#include <fmt/ranges.h>

namespace diffuse {

std::string to_string(const ExampleShape& shape) {
    if (shape.points) return fmt::format("{} number{}", shape.channels, shape.channels == 1 ? "" : "s");
    return fmt::format("{}", fmt::join(shape.sizes(), "x"));
}

std::string noun(const ExampleShape& shape) { return shape.points ? "point" : "image"; }

}  // namespace diffuse
