#pragma once

#include <optional>
#include <string>

namespace diffuse {

/// A UTF-8 text in Unicode's normal form C (Unicode Standard Annex #15), in which letters and their accents are one
/// character where there is one: macOS writes the names of files in form D, keyboards in form C. None where the bytes
/// are no UTF-8.
std::optional<std::string> nfc(const std::string& text);

/// Whether two names are the same in normal form C; names that are no UTF-8, byte by byte.
bool is_same_name(const std::string& a, const std::string& b);

}  // namespace diffuse
