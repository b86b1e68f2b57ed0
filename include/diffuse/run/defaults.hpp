#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "diffuse/run/sample_options.hpp"

/// What a config says is a default: it holds where a person says nothing else. Defaults that do not go with what is
/// said are left out, and that is told; what a person says is refused instead where it makes no sense.
namespace diffuse {

/// Defaults that were left out, and why.
class LeftOut {
public:
    /// "sample.steps" 20 "for sample.solver unipc"
    void add(const std::string& key, const nlohmann::json& value, const std::string& why);
    /// Logs a line for each reason.
    void tell() const;

private:
    std::map<std::string, std::set<std::string>> by_reason_;
};

/// Keys of a section of options that do not go with what is said of it.
struct Unfit {
    std::string why;
    std::vector<std::string> keys;
};
/// Those of the section sample: another solver brings its own steps, spacing and options, another spacing its own
/// shift; a scale of 1 guides nothing, and a scale of 0 is of no class at all levels. `said`, `before`: its values, as
/// JSON.
std::vector<Unfit> unfit_for_sampling(const nlohmann::json& said, const nlohmann::json& before);

/// The options that are said, as JSON ({"steps": 5}), and those of `base` that go with them. What is said stays, for
/// `check` to refuse.
SampleOptions with_said(const nlohmann::json& said, SampleOptions base, LeftOut& left_out);

/// Without guidance where nobody says anything of it (`said`), and the examples are of no class, so that there is
/// nothing to lead to. A guide leads nevertheless.
SampleOptions guided_if_possible(SampleOptions options, const nlohmann::json& said, bool has_class, LeftOut& left_out);

}  // namespace diffuse
