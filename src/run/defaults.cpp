#include "diffuse/run/defaults.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"

namespace diffuse {
namespace {

using Said = nlohmann::json;

const std::vector<std::string> kOfGuidance = {"guidance_interval", "guidance_rescale", "negative_class", "guide"};

std::vector<std::string> keys_of_solver() {
    std::vector<std::string> keys = {"steps", "nfe", "spacing", "shift"};
    SolverOptions options;
    for (const auto& field : fields(options)) keys.push_back(field.key);
    return keys;
}

Fields fields_of_any_choice(SampleOptions& options) {
    Fields all = fields(options);
    for (auto& field : all) field.belongs = {};
    return all;
}

/// Gives these keys the values that options begin with, unless they are said, and notes those that had others.
void leave_out(SampleOptions& options, const Unfit& unfit, const Said& said, LeftOut& left_out) {
    SampleOptions fresh{.direction = options.direction};
    const Fields all = fields_of_any_choice(options), others = fields_of_any_choice(fresh);
    for (size_t i = 0; i < all.size(); ++i) {
        const std::string& key = all[i].key;
        if (said.contains(key) || std::ranges::find(unfit.keys, key) == unfit.keys.end()) continue;
        const Said value = value_of(all[i]), by_default = value_of(others[i]);
        if (value == by_default) continue;
        left_out.add("sample." + key, value, unfit.why);
        read({all[i]}, {{key, by_default}}, /*what=*/"");
    }
}

}  // namespace

void LeftOut::add(const std::string& key, const nlohmann::json& value, const std::string& why) {
    by_reason_[why].insert(key + " " + to_text(value));
}

void LeftOut::tell() const {
    for (const auto& [why, what] : by_reason_) {
        log::info(fmt::format("left out of the defaults: {} ({})", fmt::join(what, ", "), why));
    }
}

std::vector<Unfit> unfit_for_sampling(const Said& said, const Said& before) {
    SampleOptions fresh;
    const Said defaults = to_json(fields(fresh));
    std::vector<Unfit> all;
    for (const std::string choice : {"solver", "spacing"}) {
        const Said was = before.contains(choice) ? before[choice] : defaults[choice];
        if (!said.contains(choice) || said[choice] == was || !was.is_string()) continue;
        const std::string why = fmt::format("for sample.{} {}", choice, was.get<std::string>());
        all.push_back({why, choice == "solver" ? keys_of_solver() : std::vector<std::string>{"shift"}});
    }
    if (!said.contains("guidance")) return all;
    if (said["guidance"] == 1) all.push_back({"nothing is guided at sample.guidance 1", kOfGuidance});
    if (said["guidance"] == 0)
        all.push_back({"sample.guidance 0 draws of no class at all levels", {"guidance_interval"}});
    return all;
}

SampleOptions with_said(const Said& said, SampleOptions base, LeftOut& left_out) {
    if (said.contains("steps") || said.contains("nfe")) base.steps.reset(), base.nfe.reset();  // one of them
    const Said before = to_json(fields(base));
    for (const auto& unfit : unfit_for_sampling(said, before)) leave_out(base, unfit, said, left_out);
    read(fields_of_any_choice(base), said, /*what=*/"");
    return base;
}

SampleOptions guided_if_possible(SampleOptions options, const Said& said, bool has_class, LeftOut& left_out) {
    std::vector<std::string> keys = kOfGuidance;
    keys.emplace_back("guidance");
    const bool is_asked = std::ranges::any_of(keys, [&](const auto& key) { return said.contains(key); });
    if (has_class || is_asked || !options.guide.empty()) return options;
    leave_out(options, {"of no class there is nothing to lead to", keys}, said, left_out);
    return options;
}

}  // namespace diffuse
