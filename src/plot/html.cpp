#include "diffuse/plot/html.hpp"

#include <fmt/format.h>

#include <cstdint>

namespace diffuse {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --text: #1a1a1a; --back: #ffffff; --soft: #f2f2f0; --line: #d0d0cc; --good: #006b4f; --bad: #b3261e; --link: #00558c; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e8e8e4; --back: #16181a; --soft: #22262a; --line: #444a50; --good: #5fd0a8; --bad: #ff8a80; --link: #8ac6f2; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 75rem; color: var(--text); background: var(--back); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
a { color: var(--link); } code { background: var(--soft); padding: 0.1em 0.3em; border-radius: 3px; }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.7rem; border-bottom: 1px solid var(--line); overflow-wrap: normal; }
td.number { text-align: right; white-space: nowrap; } td.good { color: var(--good); } td.bad { color: var(--bad); font-weight: bold; }
figure { margin: 1.5rem 0; } figure img { display: block; min-width: 35rem; max-width: 100%; background: #ffffff; border: 1px solid var(--line); }
figure img.pixels { min-width: 0; image-rendering: pixelated; } figcaption { margin-top: 0.5rem; font-size: 0.9rem; }
)";

}  // namespace

std::string html_text(std::string_view text) {
    constexpr std::string_view kSpecial = "&<>\"";
    constexpr std::string_view kShown[] = {"&amp;", "&lt;", "&gt;", "&quot;"};
    std::string result;
    for (const char c : text) {
        const size_t which = kSpecial.find(c);
        result += which == kSpecial.npos ? std::string_view(&c, 1) : kShown[which];
    }
    return result;
}

std::string data_address(std::string_view type, std::string_view bytes) {
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text = fmt::format("data:{};base64,", type);
    for (size_t i = 0; i < bytes.size(); i += 3) {  // RFC 4648: three bytes are four digits
        uint32_t group = 0;
        for (size_t k = 0; k < 3; ++k) group = group << 8 | (i + k < bytes.size() ? uint8_t(bytes[i + k]) : 0);
        for (size_t k = 0; k < 4; ++k) text += i + k > bytes.size() ? '=' : kDigits[group >> (18 - 6 * k) & 63];
    }
    return text;
}

std::string html_page(const std::string& title, const std::string& body) {
    return fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<link rel=\"icon\" "
        "href=\"data:,\">\n<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n{2}</body>\n</html>\n",
        html_text(title), kStyle, body);
}

}  // namespace diffuse
