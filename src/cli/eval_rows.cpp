#include <fmt/format.h>

#include <algorithm>

#include "cli/eval.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse::cli {
namespace {

std::vector<std::string> keys_of(const Fields& fields) {
    std::vector<std::string> keys;
    for (const auto& field : fields) keys.push_back(field.key);
    return keys;
}

nlohmann::json value_in(const SampleOptions& options, const std::string& key) {
    SampleOptions copy = options;
    for (const auto& field : fields(copy)) {
        if (field.key == key) return value_of(field);
    }
    return nullptr;
}

/// What a command line would have to say for one row.
struct Said {
    SampleOptions options;
    Given given;
};

std::vector<Said> each(const std::vector<Said>& rows, const Sweep& sweep) {
    std::vector<Said> result;
    for (const auto& row : rows) {
        for (const auto& value : sweep.values) {
            Said& one = result.emplace_back(row);
            Fields all = fields(one.options);
            for (auto& field : all) field.belongs = {};  // which rows take notice of it is seen later
            read(all, {{sweep.key, value}}, "--vary");
            if (!one.given.insert(sweep.key).second) {
                throw Error(fmt::format("--vary {0}: {1} says it too; leave one of them out", sweep.key,
                                        option_name(sweep.key)));
            }
        }
    }
    return result;
}

/// The options that one row samples by.
SampleOptions row_of(const Said& said, const SampleOptions& base) {
    if (said.given.contains("steps") && said.given.contains("nfe")) {
        throw Error("both steps and nfe are given; leave one of them out");
    }
    Said own = said;
    own.options.direction = base.direction;
    if (!own.given.contains("solver")) own.options.solver = base.solver;
    if (!own.given.contains("spacing")) own.options.spacing = base.spacing;
    forget_foreign(fields(own.options));  // what belongs to the solvers of other rows
    for (const auto& field : fields(own.options)) {
        if (value_of(field).is_null()) own.given.erase(field.key);
    }
    return without_idle(with_given(own.given, own.options, base));
}

/// Refuses what no row takes notice of.
void require_effect(const EvalOptions& options, const std::vector<SampleOptions>& rows) {
    SampleOptions any = options.sampling;
    for (const auto& key : keys_of(fields(any))) {
        const nlohmann::json said = value_in(options.sampling, key);
        const auto keeps = [&](const SampleOptions& row) { return value_in(row, key) == said; };
        if (!options.given.contains(key) || std::ranges::any_of(rows, keeps)) continue;
        throw Error(fmt::format("{} changes nothing in any row: it belongs to another choice", option_name(key)));
    }
    for (const auto& [key, values] : options.sweeps) {
        std::vector<nlohmann::json> found;
        for (const auto& row : rows) found.push_back(value_in(row, key));
        const bool taken = std::ranges::any_of(
            values, [&](const nlohmann::json& value) { return std::ranges::find(found, value) != found.end(); });
        if (!taken) throw Error(fmt::format("--vary {}: it changes nothing in any row", key));
    }
}

}  // namespace

Sweep parse_sweep(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
        throw Error(fmt::format("--vary {}: expected KEY=VALUE,VALUE, e.g. steps=5,10", text));
    }
    SampleOptions options;
    const Fields known = fields(options);
    const std::string key = text.substr(0, equals);
    const auto found = std::ranges::find(known, key, &Field::key);
    if (found == known.end()) throw Error("--vary: " + unknown_name("key", key, keys_of(known)));
    if (key == "weights" || key == "guide" || key == "batch") {
        throw Error(fmt::format("--vary {}: a table is of one network; measure each by a command of its own", key));
    }
    Field field = *found;
    field.belongs = {};  // which rows take notice of it is seen later
    Sweep sweep{key, {}};
    const auto words = split_list("--vary " + key, text.substr(equals + 1));
    const size_t each = std::holds_alternative<Interval>(field.value) ? 2 : 1;
    if (words.size() % each != 0) throw Error(fmt::format("--vary {}: expected pairs LO,HI,LO,HI,...", key));
    for (size_t i = 0; i < words.size(); i += each) {
        const std::string value = each == 1 ? words[i] : words[i] + "," + words[i + 1];
        sweep.values.push_back(json_of_words(field, "--vary " + key, {value}));
        read({field}, {{key, sweep.values.back()}}, "--vary");
    }
    return sweep;
}

size_t values_of(const EvalOptions& options, const std::string& key) {
    const auto sweep = std::ranges::find(options.sweeps, key, &Sweep::key);
    return sweep == options.sweeps.end() ? 1 : sweep->values.size();
}

std::vector<SampleOptions> combinations(const EvalOptions& options, const Checkpoint& checkpoint, Direction direction) {
    std::vector<Said> all = {{options.sampling, options.given}};
    for (const auto& sweep : options.sweeps) all = each(all, sweep);
    // A network's own way of drawing may have no way back.
    SampleOptions base = direction == Direction::kSampling ? checkpoint.config.sample : SampleOptions();
    base.direction = direction;
    std::vector<SampleOptions> rows;  // a scale of 1 is the same in every interval
    for (const auto& said : all) {
        const SampleOptions row = row_of(said, base);
        if (std::ranges::find(rows, row) == rows.end()) rows.push_back(row);
    }
    require_effect(options, rows);
    const Schedule schedule = make_schedule(checkpoint.config.schedule);
    for (const auto& row : rows) {
        check(row);
        make_grid(row, schedule, checkpoint.data.shape.numel());
    }
    return rows;
}

}  // namespace diffuse::cli
