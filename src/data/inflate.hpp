#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace diffuse {

constexpr std::string_view kGzip = "\x1f\x8b";  ///< what its files begin with

/// What zlib unpacks; the numbers are those that it knows them by.
enum class Packing : int {
    kGzipFile = 15 + 16,  ///< one or several put behind one another, which are one (RFC 1952)
    kDeflated = -15       ///< without a header (RFC 1951)
};

/// The bytes that are packed; more than `max_bytes` of them only to tell that they are too many. Calls `fail`, which
/// throws Error, where the packed ones are damaged or cut short, or others follow.
std::string inflated(std::string_view packed, Packing packing, int64_t max_bytes,
                     const std::function<void(const std::string& what)>& fail);

}  // namespace diffuse
