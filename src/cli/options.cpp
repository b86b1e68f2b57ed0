#include "cli/options.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "diffuse/base/device.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse::cli {
namespace {

/// Offers one field. Of the kinds of fields, those that the command line has.
struct Adder {
    CLI::App& command;
    const Field& field;
    std::string name;  ///< "--max-ratio"

    CLI::Option* operator()(std::optional<bool>* value) const {
        // CLI11's own flag for an optional<bool> sets it to false when nothing is given.
        const auto set = [value, &chosen = command, own = name](int64_t count) {
            if (chosen.count(own) > 1) throw Error(fmt::format("{} is given twice; once is enough", own));
            *value = count > 0;
        };
        return command.add_flag_function(fmt::format("{0},!--no-{1}", name, name.substr(2)), set, field.meaning);
    }
    CLI::Option* operator()(const Choice& choice) const {
        return command.add_option(name, *choice.value, field.meaning)
            ->check(known_name(field.key, choice.known))
            ->type_name("NAME")
            ->capture_default_str();
    }
    template <class T>
    CLI::Option* operator()(const Number<T>& number) const {
        auto* option =
            command.add_option(name, *number.value, field.meaning)->transform(range(number.low, number.high));
        if (std::is_arithmetic_v<T>) option->capture_default_str();
        return option->type_name(type_of(number.low));
    }
    CLI::Option* operator()(std::string* value) const {
        return command.add_option(name, *value, field.meaning)->type_name("TEXT")->capture_default_str();
    }
    CLI::Option* operator()(const Interval& interval) const {
        const auto take = [interval, own = name](const std::string& text) {
            double low = 0, high = 0;
            const char *begin = text.data(), *end = begin + text.size();
            const auto first = std::from_chars(begin, end, low);
            const bool has_comma = first.ec == std::errc() && first.ptr != end && *first.ptr == ',';
            const auto second = has_comma ? std::from_chars(first.ptr + 1, end, high) : first;
            const bool fits = has_comma && second.ec == std::errc() && second.ptr == end && interval.low <= low &&
                              low < high && high <= interval.high;
            if (!fits) throw Error(fmt::format("{}: '{}' is not two numbers LO,HI, the second larger", own, text));
            *interval.value = {low, high};
        };
        return command.add_option_function<std::string>(name, take, field.meaning)->type_name("LO,HI");
    }
    template <class T>
    CLI::Option* operator()(const T&) const {
        TORCH_INTERNAL_ASSERT(false, "no option of this kind: ", name);
    }

private:
    static const char* type_of(int64_t) { return "N"; }
    static const char* type_of(double) { return "X"; }
};

}  // namespace

void add_options(CLI::App& command, const Fields& fields, const char* group) {
    for (const auto& field : fields) {
        auto* option = std::visit(Adder{command, field, option_name(field.key)}, field.value)->group(group);
        if (!field.by_default.empty()) option->default_str(field.by_default);
    }
}

std::string option_name(std::string key) {
    std::replace(key.begin(), key.end(), '_', '-');
    return "--" + key;
}

CLI::Validator known_name(const std::string& kind, std::vector<std::string> known) {
    const std::string list = fmt::format("{}", fmt::join(known, "|"));
    const auto check = [kind, known = std::move(known)](std::string& name) {
        const bool found = std::find(known.begin(), known.end(), name) != known.end();
        return found ? std::string() : unknown_name(kind, name, known);
    };
    return CLI::Validator(check, list);
}

CLI::Validator ending(const std::vector<std::string>& known) {
    const auto check = [known](std::string& path) {
        const std::string found = file_ending(path);
        if (std::find(known.begin(), known.end(), std::filesystem::path(path).filename()) != known.end()) {
            return fmt::format("'{}' is an ending without a name", path);
        }
        const bool fits =
            is_special(path) || path.empty() || std::find(known.begin(), known.end(), found) != known.end();
        return fits ? ""
                    : fmt::format("'{}' does not end in {}, which is what is written", path, fmt::join(known, " or "));
    };
    return CLI::Validator(check, "");
}

void RuntimeOptions::add_to(CLI::App& command) {
    command.add_option("--device", device, "auto, cpu, cuda or cuda:N")
        ->type_name("DEVICE")
        ->group(kMachine)
        ->capture_default_str();
    command.add_option("--threads", threads, "CPU threads; 0: one for each core that the process may use")
        ->transform(range<int64_t>(0, 1024))
        ->type_name("N")
        ->group(kMachine)
        ->capture_default_str();
    auto* quiet_flag = command.add_flag("--quiet", quiet, "print warnings and errors only, and no progress");
    auto* verbose_flag = command.add_flag("--verbose", verbose, "print details too");
    quiet_flag->group(kMachine);
    verbose_flag->group(kMachine)->excludes(quiet_flag);
}

torch::Device RuntimeOptions::apply() const {
    log::set_stderr_level(quiet ? log::Level::kWarn : verbose ? log::Level::kDebug : log::Level::kInfo);
    set_threads(threads);
    const auto chosen = parse_device(device);
    if (chosen.is_cuda()) make_cuda_exact();
    return chosen;
}

}  // namespace diffuse::cli
