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

/// Bytes of the character of UTF-8 that a text begins with; 0 where it begins with none (RFC 3629).
size_t character_length(std::string_view text) {
    const auto byte = [&](size_t i) { return i < text.size() ? uint8_t(text[i]) : uint8_t{0}; };
    const uint8_t first = byte(0), second = byte(1);
    if (first < 0x80) return 1;
    const size_t length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return 0;
    }
    // longer forms of shorter characters, halves of pairs of UTF-16, and what is beyond Unicode's end
    const bool is_none = (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
                         (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
    return is_none ? 0 : length;
}

/// By the mark that it begins with, or by its first character, which in JSON is one of ASCII.
bool is_utf16(std::string_view text) {
    if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff")) return true;
    return text.size() > 1 && (text[0] == 0) != (text[1] == 0);
}

}  // namespace

Json parse_json(std::string_view text, const std::string& what) {
    if (is_utf16(text)) throw Error(what + " is text in UTF-16; save it as UTF-8");
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

size_t utf8_length(std::string_view text) {
    size_t length = 0;
    for (size_t next = 1; next > 0 && length < text.size(); length += next)
        next = character_length(text.substr(length));
    return length;
}

nlohmann::json json_or_text(const std::string& text, bool wants_text) {
    const auto value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    return value.is_discarded() || (wants_text && !value.is_string()) ? nlohmann::json(text) : value;
}

}  // namespace diffuse
