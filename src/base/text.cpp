#include "diffuse/base/text.hpp"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

namespace diffuse {

std::optional<std::string> nfc(const std::string& text) {
    utf8proc_uint8_t* composed = nullptr;
    const auto length =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), utf8proc_ssize_t(text.size()), &composed,
                     utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(composed, std::free);
    if (length < 0) return std::nullopt;
    return std::string(reinterpret_cast<const char*>(composed), size_t(length));
}

bool is_same_name(const std::string& a, const std::string& b) {
    return a == b || nfc(a).value_or(a) == nfc(b).value_or(b);
}

}  // namespace diffuse
