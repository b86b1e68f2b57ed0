#include "diffuse/data/csv.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>
#include <set>

#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/log.hpp"

namespace diffuse {
namespace {

constexpr uintmax_t kMaxBytes = uintmax_t{1} << 31;  ///< 2 GiB
constexpr size_t kChunk = 1 << 20;                   ///< how much is written at once
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr const char* kEmpty = "it is empty; every row needs a number for each column";

bool is_blank(char c) { return c == ' ' || c == '\t'; }

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    return text;
}

/// A text of the file in a message: in quotes, on one line and not too long.
std::string shown(std::string_view text) {
    constexpr size_t kLongest = 60;
    size_t length = std::min(text.size(), kLongest);
    while (length < text.size() && length > 0 && (text[length] & 0xc0) == 0x80) --length;  // cuts no UTF-8 character
    return fmt::format("'{}{}'", log::printable(std::string(text.substr(0, length))),
                       length < text.size() ? "..." : "");
}

/// The number that all of `text` is, be it infinite or nan; nothing where it is none. What is too large for a double is
/// infinite, what is too small is zero.
std::optional<double> number(std::string_view text) {
    constexpr size_t kFewDigits = 300;  // less than what makes up for an exponent at which doubles end
    if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
    const char* end = text.data() + text.size();
    double value = 0;
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (stop != end || error == std::errc::invalid_argument) return std::nullopt;
    if (error == std::errc()) return value;
    const bool is_divided = text.find("e-") != text.npos || text.find("E-") != text.npos;
    const bool is_small = is_divided && text.size() < kFewDigits;
    return std::copysign(is_small ? 0 : std::numeric_limits<double>::infinity(), text.starts_with('-') ? -1 : 1);
}

struct CsvField {
    std::string_view text;          ///< without the quotes and the blanks around it; valid up to the next field
    int64_t line = 0;               ///< where it begins
    bool is_quoted = false;         ///< "..."
    bool ends_line = false;         ///< the last one of its line, or the file
    const char* problem = nullptr;  ///< why it is no field of a CSV file, nor what follows
};

/// The bytes of a CSV file, field by field.
class Scanner {
public:
    Scanner(std::string_view bytes, const std::string& name)
        : at_(bytes.data()), end_(at_ + bytes.size()), name_(name) {}

    [[noreturn]] void fail(int64_t line, const std::string& what) const {
        throw Error(fmt::format("{}: line {}: {}", name_, line, what));
    }
    [[noreturn]] void fail(int64_t line, const std::string& column, const std::string& what) const {
        throw Error(fmt::format("{}: line {}, column {}: {}", name_, line, column, what));
    }
    /// Throws Error when a text that should be one field has what other files have between fields.
    void refuse_separators(int64_t line, std::string_view text) const {
        if (text.find(';') != text.npos) fail(line, "its columns are separated by ';'; use commas");
        if (text.find('\t') != text.npos) fail(line, "its columns are separated by tabs; use commas");
    }

    bool at_end() const { return at_ == end_; }
    int64_t line() const { return line_; }

    /// Goes past empty lines, to the end where nothing else follows.
    void skip_empty_lines() {
        const char* at = at_;
        for (; at != end_ && (is_blank(*at) || *at == '\r' || *at == '\n'); ++at) {
            if (*at == '\n') at_ = at + 1, ++line_;
        }
        if (at == end_) at_ = end_;
    }

    /// The field that begins here; goes past it and the comma or line's end behind it.
    CsvField next() {
        while (at_ != end_ && is_blank(*at_)) ++at_;
        return at_ != end_ && *at_ == '"' ? next_quoted() : next_plain();
    }

private:
    CsvField next_plain() {
        const char* begin = at_;
        while (at_ != end_ && *at_ != ',' && *at_ != '\n') ++at_;
        CsvField field{.text = std::string_view(begin, size_t(at_ - begin)), .line = line_};
        pass_end(field);
        if (field.ends_line && field.text.ends_with('\r')) field.text.remove_suffix(1);
        field.text = trimmed(field.text);
        return field;
    }

    CsvField next_quoted() {
        CsvField field{.line = line_, .is_quoted = true};
        unquoted_.clear();
        for (++at_; at_ != end_ && (*at_ != '"' || is_doubled_quote()); ++at_) {
            if (*at_ == '"') ++at_;
            if (*at_ == '\n') ++line_;
            unquoted_ += *at_;
        }
        field.text = unquoted_;
        if (at_ == end_) return broken(field, "its quote is not closed");
        const char* behind = ++at_;
        while (at_ != end_ && is_blank(*at_)) ++at_;
        if (at_ != end_ && *at_ == '\r' && (at_ + 1 == end_ || at_[1] == '\n')) ++at_;
        if (pass_end(field)) return field;
        refuse_separators(field.line, std::string_view(behind, size_t(at_ + 1 - behind)));
        return broken(field, "text follows its closing quote");
    }

    bool is_doubled_quote() const { return at_ + 1 != end_ && at_[1] == '"'; }

    static CsvField broken(CsvField field, const char* problem) {
        field.problem = problem;
        field.ends_line = true;
        return field;
    }

    /// Goes past what ends the field; false when that is not here.
    bool pass_end(CsvField& field) {
        field.ends_line = at_ == end_ || *at_ == '\n';
        if (at_ == end_) return true;
        if (*at_ != ',' && *at_ != '\n') return false;
        if (*at_++ == '\n') ++line_;
        return true;
    }

    const char *at_, *end_;
    int64_t line_ = 1;
    std::string unquoted_;
    const std::string& name_;
};

/// What is wrong with the names of columns; empty when nothing is.
std::string wrong_names(const std::vector<std::string>& names) {
    std::set<std::string_view> known;
    for (size_t i = 0; i < names.size(); ++i) {
        if (names[i].empty()) return fmt::format("column {} has no name; the first line must name the columns", i + 1);
        if (!known.insert(names[i]).second) return fmt::format("two columns are named {}", shown(names[i]));
    }
    const auto is_number = [](const std::string& name) { return number(trimmed(name)).has_value(); };
    if (!std::all_of(names.begin(), names.end(), is_number)) return "";
    return "the first line must name the columns, and these are numbers";
}

std::vector<std::string> read_names(Scanner& scanner) {
    std::vector<std::string> names;
    CsvField field;
    while (!field.ends_line) {
        field = scanner.next();
        names.emplace_back(field.text);
        if (field.problem) scanner.fail(field.line, std::to_string(names.size()), field.problem);
        if (!field.is_quoted && field.text.find('\r') != field.text.npos) {
            scanner.fail(1, "its lines end in a carriage return alone; end them in a newline");
        }
    }
    if (names.size() == 1 && !field.is_quoted) scanner.refuse_separators(1, names[0]);
    const std::string wrong = wrong_names(names);
    if (!wrong.empty()) scanner.fail(1, wrong);
    return names;
}

/// Why a field is none of a column of finite numbers.
std::string why_refused(const CsvField& field) {
    const std::string_view text = trimmed(field.text);
    if (field.problem) return field.problem;
    if (text.empty()) return kEmpty;
    if (const auto value = number(text)) {
        const bool is_large = std::isinf(*value) && text.find_first_of("0123456789") != text.npos;
        return fmt::format("{} is {}", shown(text), is_large ? "too large for a float64" : "not a finite number");
    }
    std::string with_point(text);
    std::replace(with_point.begin(), with_point.end(), ',', '.');
    if (with_point != text && number(with_point)) {
        return fmt::format("{} is not a number: write a decimal point, not a comma", shown(text));
    }
    return fmt::format("{} is not a number", shown(text));
}

double read_number(const Scanner& scanner, const CsvField& field, const std::string& column) {
    const auto value = number(field.is_quoted ? trimmed(field.text) : field.text);
    if (value && std::isfinite(*value) && !field.problem) return *value;
    const std::string_view text = trimmed(field.text);
    if (!field.problem && number(trimmed(text.substr(0, text.find_first_of(";\t"))))) {
        scanner.refuse_separators(field.line, text);
    }
    scanner.fail(field.line, shown(column), why_refused(field));
}

/// Appends the numbers of the line that begins here.
void read_row(Scanner& scanner, const std::vector<std::string>& columns, std::vector<double>& values) {
    size_t count = 0;
    CsvField field;
    for (; !field.ends_line; ++count) {
        field = scanner.next();
        if (count < columns.size()) values.push_back(read_number(scanner, field, columns[count]));
    }
    if (count < columns.size()) {
        scanner.fail(field.line, shown(columns[count]),
                     fmt::format("it is missing; the line has {} of {} fields", count, columns.size()));
    }
    if (count > columns.size()) {
        scanner.fail(field.line, fmt::format("has {} fields, but the first line names {} columns (are there decimal "
                                             "commas? write points)",
                                             count, columns.size()));
    }
}

std::vector<double> read_rows(Scanner& scanner, const std::vector<std::string>& columns) {
    std::vector<double> values;
    while (true) {
        const int64_t line = scanner.line();
        scanner.skip_empty_lines();
        if (scanner.at_end()) return values;
        if (scanner.line() != line) scanner.fail(line, kEmpty);
        read_row(scanner, columns, values);
    }
}

/// A name as it stands in the first line.
std::string header_field(const std::string& name) {
    const bool is_plain =
        name.find_first_of(",;\"\t\r\n") == name.npos && trimmed(name) == name && !name.starts_with(kByteOrderMark);
    if (is_plain) return name;
    std::string quoted = "\"";
    for (const char c : name) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + '"';
}

/// Appends the fewest digits that give the float back when they are read as a double and converted.
void append_float(std::string& text, float value) {
    const size_t before = text.size();
    fmt::format_to(std::back_inserter(text), "{}", value);
    // Rounding twice goes wrong for 7.038531e-26.
    if (float(*number(std::string_view(text).substr(before))) == value) return;
    text.resize(before);
    fmt::format_to(std::back_inserter(text), "{}", double(value));
}

}  // namespace

NumberTable parse_csv(std::string_view bytes, const std::string& name) {
    if (bytes.find('\0') != bytes.npos) {
        throw Error(fmt::format("{}: is no text in UTF-8, for it has zero bytes; save it as CSV", name));
    }
    if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
    Scanner scanner(bytes, name);
    if (bytes.find_first_not_of(" \t\r\n") == bytes.npos) {
        throw Error(fmt::format("{}: is empty; its first line must name the columns", name));
    }
    const auto columns = read_names(scanner);
    auto values = read_rows(scanner, columns);
    if (values.empty()) throw Error(fmt::format("{}: has no rows below the line that names the columns", name));
    const auto width = int64_t(columns.size());
    return {columns, torch::from_blob(values.data(), {std::ssize(values) / width, width}, torch::kFloat64).clone()};
}

NumberTable read_csv(const std::filesystem::path& path) {
    return parse_csv(read_file(path, kMaxBytes), display_path(path));
}

void write_csv(const std::filesystem::path& path, const NumberTable& table, bool as_float32) {
    const auto width = std::ssize(table.columns);
    TORCH_CHECK(table.values.dim() == 2 && table.values.size(1) == width, "a table needs a name for each column");
    const auto fail = [&](const std::string& what) {
        throw Error(fmt::format("cannot write {}: {}", display_path(path), what), kRunFailed);
    };
    const std::string wrong = wrong_names(table.columns);
    if (!wrong.empty()) fail(wrong);
    const auto rounded = as_float32 ? table.values.to(torch::kFloat32) : table.values;
    const auto values = rounded.to(torch::kCPU, torch::kFloat64).contiguous();
    const double* numbers = values.data_ptr<double>();
    write_file(path, [&](const Put& put) {
        std::string text;
        for (const auto& name : table.columns) text += (text.empty() ? "" : ",") + header_field(name);
        text += '\n';
        for (int64_t i = 0; i < values.numel(); ++i) {
            const bool ends_line = (i + 1) % width == 0;
            if (!std::isfinite(numbers[i])) {
                fail(fmt::format("row {} of column {} is {}", i / width + 1, shown(table.columns[size_t(i % width)]),
                                 numbers[i]));
            }
            as_float32 ? append_float(text, float(numbers[i]))
                       : void(fmt::format_to(std::back_inserter(text), "{}", numbers[i]));
            text += ends_line ? '\n' : ',';
            if (text.size() < kChunk) continue;
            put(text);
            text.clear();
        }
        put(text);
    });
}

}  // namespace diffuse
