#include "diffuse/base/json.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "diffuse/base/error.hpp"

namespace diffuse {
namespace {

using Json = nlohmann::json;
constexpr int kMaxDepth = 8;

}  // namespace

Json parse_json(std::string_view text, const std::string& what) {
    if (text.find('\0') != std::string_view::npos) throw Error(what + " is not valid JSON: it has a zero byte");
    std::vector<std::set<std::string>> names;  // of the objects that are open
    const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
        if (depth >= kMaxDepth) throw Error(fmt::format("{} is nested too deeply", what));
        if (event == Json::parse_event_t::object_start) names.emplace_back();
        if (event == Json::parse_event_t::object_end) names.pop_back();
        if (event == Json::parse_event_t::key && !names.back().insert(parsed.get<std::string>()).second) {
            throw Error(fmt::format("{} has the name '{}' twice", what, parsed.get<std::string>()));
        }
        return true;
    };
    try {
        return Json::parse(text, check);
    } catch (const Json::parse_error& error) {
        const auto before = text.substr(0, std::min(error.byte, text.size()));
        const auto line = 1 + std::count(before.begin(), before.end(), '\n');
        throw Error(fmt::format("{} is not valid JSON (line {})", what, line));
    } catch (const Json::out_of_range&) {
        throw Error(fmt::format("{} holds a number that is too large", what));
    }
}

nlohmann::ordered_json number_json(double value) {
    if (!std::isinf(value)) return value;
    return value > 0 ? "inf" : "-inf";
}

nlohmann::json json_or_text(const std::string& text, bool wants_text) {
    const auto value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    return value.is_discarded() || (wants_text && !value.is_string()) ? nlohmann::json(text) : value;
}

}  // namespace diffuse
