#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "diffuse/base/fields.hpp"
#include "diffuse/base/torch.hpp"

namespace diffuse::cli {

/// The groups in which help shows the options of a command; each has one more, before them, for what it works on.
inline constexpr const char *kHow = "How", *kWritten = "What is written", *kMachine = "The machine";

/// Offers every field as an option of a group: max_ratio as --max-ratio, optional flags as --clip-x0 and --no-clip-x0.
void add_options(CLI::App& command, const Fields& fields, const char* group);

/// "--max-ratio" of the key "max_ratio"
std::string option_name(std::string key);

/// --device, --threads, --quiet and --verbose
struct RuntimeOptions {
    std::string device = "auto";
    int64_t threads = 0;
    bool quiet = false, verbose = false;
    void add_to(CLI::App& command);
    torch::Device apply() const;
};

/// "1 to 64", "0 or more"
template <class T>
std::string range_words(T low, T high) {
    const bool bounded = high < std::numeric_limits<T>::max();
    return bounded ? fmt::format("{} to {}", low, high) : fmt::format("{} or more", low);
}

/// A check for CLI11, to be given as `transform`: a number from `low` to `high`. CLI11's own lets NaN pass, and takes
/// numbers that are too large for their type for the largest there is.
template <class T>
CLI::Validator range(T low, T high) {
    const auto check = [=](std::string& text) {
        T value;
        const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool inside = problem == std::errc() && *end == '\0' && value >= low && value <= high;
        const char* kind = std::is_integral_v<T> ? "a whole number" : "a number";
        if (!inside) return fmt::format("'{}' is not {} from {} to {}", text, kind, low, high);
        text = fmt::format("{}", value);  // CLI11 would read 010 as 8
        return std::string();
    };
    return CLI::Validator(check, range_words(low, high));
}

/// A check for CLI11: a file's name must end in one of these, so that it tells what is in it; a device or pipe need
/// not.
CLI::Validator ending(const std::vector<std::string>& known);

/// A check for CLI11: the name must be a known one.
CLI::Validator known_name(const std::string& kind, std::vector<std::string> known);

}  // namespace diffuse::cli
