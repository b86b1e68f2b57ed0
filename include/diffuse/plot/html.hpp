#pragma once

#include <string>
#include <string_view>

namespace diffuse {

/// A text as HTML shows it.
std::string html_text(std::string_view text);

/// Bytes as an address that a page carries inside itself; `type`: "image/svg+xml".
std::string data_address(std::string_view type, std::string_view bytes);

/// A whole page without scripts and without other files, for light and dark screens of 400 pixels or more. What is wide
/// scrolls within elements of class "wide". body: HTML.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace diffuse
