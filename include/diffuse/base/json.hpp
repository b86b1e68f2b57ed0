#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace diffuse {

/// Strict JSON: one value and nothing behind it, no name twice in an object, no number too large for a double, at most
/// 8 levels deep. Throws Error that begins with `what`, the name of the text, and says what is wrong with it.
nlohmann::json parse_json(std::string_view text, const std::string& what);

/// A value of the command line: JSON where it parses as JSON, else text; as it is where a text is wanted, so that 3 may
/// be a name.
nlohmann::json json_or_text(const std::string& text, bool wants_text);

/// A number as JSON, which knows no infinity: the words "inf" and "-inf" instead.
nlohmann::ordered_json number_json(double value);

/// JSON as one line, or with `indent` spaces a level; bytes that are not UTF-8 are replaced.
template <class Json>
std::string to_text(const Json& json, int indent = -1) {
    return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

/// How many bytes at the beginning of a text are whole characters of UTF-8, as all of JSON is: all, or up to the first
/// that is none.
size_t utf8_length(std::string_view text);

}  // namespace diffuse
