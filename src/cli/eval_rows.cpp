#include <fmt/format.h>

#include <algorithm>

#include "cli/eval.hpp"
#include "diffuse/base/table.hpp"

namespace diffuse::cli {
namespace {

using Said = nlohmann::json;  // what a command line would have to say for one row: {"steps": 5}

std::vector<Said> each(const std::vector<Said>& rows, const Sweep& sweep) {
    std::vector<Said> result;
    for (const auto& row : rows) {
        if (row.contains(sweep.key)) {
            throw Error(
                fmt::format("--vary {0}: {1} says it too; leave one of them out", sweep.key, option_name(sweep.key)));
        }
        for (const auto& value : sweep.values) result.emplace_back(row)[sweep.key] = value;
    }
    return result;
}

/// Refuses values of a key of which no row takes notice.
void require_effect(const std::string& name, const std::string& key, const std::vector<nlohmann::json>& values,
                    const std::vector<SampleOptions>& rows) {
    const auto is_taken = [&](SampleOptions row) {
        const nlohmann::json found = to_json(fields(row))[key];
        return std::ranges::find(values, found) != values.end();
    };
    if (std::ranges::any_of(rows, is_taken)) return;
    throw Error(fmt::format("{} changes nothing in any row: it belongs to another choice", name));
}

}  // namespace

bool can_vary(const std::string& key) { return key != "weights" && key != "guide" && key != "batch"; }

Sweep parse_sweep(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
        throw Error(fmt::format("--vary {}: expected KEY=VALUE,VALUE, e.g. steps=5,10", text));
    }
    SampleOptions options;
    const Fields known = fields(options);
    const std::string key = text.substr(0, equals);
    const auto found = std::ranges::find(known, key, &Field::key);
    if (found == known.end()) {
        std::vector<std::string> keys;
        for (const auto& field : known) keys.push_back(field.key);
        throw Error("--vary: " + unknown_name("key", key, keys));
    }
    if (!can_vary(key)) {
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
    const Said given = said_of(options.given, options.sampling);
    std::vector<Said> all = {given};
    for (const auto& sweep : options.sweeps) all = each(all, sweep);
    // A network's own way of drawing may have no way back.
    SampleOptions base = direction == Direction::kSampling ? checkpoint.config.sample : SampleOptions();
    base.direction = direction;
    std::vector<SampleOptions> rows;  // a scale of 1 is the same in every interval
    LeftOut left_out;
    for (const auto& said : all) {
        SampleOptions row = with_said(said, base, left_out);
        const ConditionSpec& known = checkpoint.data.condition;
        const bool has_class =
            row.classes == kClassesOfData ? known.classes.count > 0 : !known.cycle(row.classes).empty();
        row = without_idle(guided_if_possible(row, said, has_class, left_out));
        if (std::ranges::find(rows, row) == rows.end()) rows.push_back(row);
    }
    for (const auto& [key, value] : given.items())
        require_effect(option_name(key), key, std::vector<nlohmann::json>(1, value), rows);
    for (const auto& [key, values] : options.sweeps) require_effect("--vary " + key, key, values, rows);
    const Schedule schedule = make_schedule(checkpoint.config.schedule);
    for (const auto& row : rows) {
        check(row);
        make_grid(row, schedule, checkpoint.data.shape.numel());
    }
    left_out.tell();
    return rows;
}

}  // namespace diffuse::cli
