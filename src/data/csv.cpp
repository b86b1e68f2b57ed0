#include "diffuse/data/csv.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>
#include <regex>
#include <set>

#include "data/inflate.hpp"
#include "diffuse/base/error.hpp"
#include "diffuse/base/file.hpp"
#include "diffuse/base/json.hpp"
#include "diffuse/base/log.hpp"
#include "diffuse/base/table.hpp"

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

/// Of semicolon, comma and tab the one that the first line has most often outside of quotes.
char separator_of(std::string_view bytes) {
    constexpr std::string_view kSeparators = ";,\t";
    std::array<int64_t, kSeparators.size()> counts{};
    bool is_quoted = false;
    for (const char c : bytes) {
        if (c == '"') is_quoted = !is_quoted;
        if (is_quoted) continue;
        if (c == '\n') break;
        if (const size_t which = kSeparators.find(c); which != kSeparators.npos) ++counts[which];
    }
    const auto most = std::ranges::max_element(counts);
    return *most == 0 ? ',' : kSeparators[size_t(most - counts.begin())];
}

std::string separator_name(char separator) { return separator == '\t' ? "tabs" : fmt::format("'{}'", separator); }

/// The bytes of a CSV file, field by field.
class Scanner {
public:
    Scanner(std::string_view bytes, const std::string& name)
        : at_(bytes.data()), end_(at_ + bytes.size()), separator_(separator_of(bytes)), name_(name) {}

    char separator() const { return separator_; }

    [[noreturn]] void fail(int64_t line, const std::string& what) const {
        throw Error(fmt::format("{}: line {}: {}", name_, line, what));
    }
    [[noreturn]] void fail(int64_t line, const std::string& column, const std::string& what) const {
        throw Error(fmt::format("{}: line {}, column {}: {}", name_, line, column, what));
    }
    /// Throws Error when a text that should be one field has what other files have between fields.
    void refuse_separators(int64_t line, std::string_view text) const {
        const size_t other = text.find_first_of(";\t");
        if (other == text.npos) return;
        fail(line, fmt::format("its columns are separated by {}, those of the first line by {}",
                               separator_name(text[other]), separator_name(separator_)));
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

    /// The field that begins here; goes past it and the separator or line's end behind it.
    CsvField next() {
        while (at_ != end_ && is_blank(*at_) && *at_ != separator_) ++at_;
        return at_ != end_ && *at_ == '"' ? next_quoted() : next_plain();
    }

private:
    CsvField next_plain() {
        const char* begin = at_;
        while (at_ != end_ && *at_ != separator_ && *at_ != '\n') ++at_;
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
        while (at_ != end_ && is_blank(*at_) && *at_ != separator_) ++at_;
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
        if (*at_ != separator_ && *at_ != '\n') return false;
        if (*at_++ == '\n') ++line_;
        return true;
    }

    const char *at_, *end_;
    char separator_;
    int64_t line_ = 1;
    std::string unquoted_;
    const std::string& name_;
};

/// What is wrong with the names of columns; empty when nothing is. `taken`: whether each is read.
std::string wrong_names(const std::vector<std::string>& names, const std::vector<bool>& taken) {
    std::set<std::string_view> known;
    for (size_t i = 0; i < names.size(); ++i) {
        if (!taken[i]) continue;
        if (names[i].empty()) return fmt::format("column {} has no name; the first line must name the columns", i + 1);
        if (!known.insert(names[i]).second) return fmt::format("two columns are named {}", shown(names[i]));
    }
    const auto is_number = [](const std::string& name) { return number(trimmed(name)).has_value(); };
    if (!std::all_of(names.begin(), names.end(), is_number)) return "";
    return "the first line must name the columns, and these are numbers";
}

/// Whether a text says that there is no number.
bool is_gap(std::string_view text) {
    static const std::set<std::string, std::less<>> words = {"", "na", "n/a", "#n/a", "nan", "null", "none"};
    std::string lower(text);
    std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return words.contains(lower);
}

/// Why a text is no finite number.
std::string why_refused(std::string_view text) {
    if (text.empty()) return kEmpty;
    if (const auto value = number(text)) {
        const bool is_large = std::isinf(*value) && text.find_first_of("0123456789") != text.npos;
        return fmt::format("{} is {}", shown(text), is_large ? "too large for a float64" : "not a finite number");
    }
    static const std::regex with_thousands(R"([-+]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?)");
    std::string without(text), with_point(text);
    std::erase(without, ',');
    std::replace(with_point.begin(), with_point.end(), ',', '.');
    const bool is_short = text.size() < 60;  // the expression takes a call for each character
    if (is_short && std::regex_match(std::string(text), with_thousands)) {
        const std::string or_decimal = number(with_point) ? fmt::format(", or {} if that is meant", with_point) : "";
        return fmt::format("{} is not a number: write {}, without commas between thousands{}", shown(text), without,
                           or_decimal);
    }
    if (with_point != text && number(with_point)) {
        return fmt::format("{} is not a number: write a decimal point, not a comma, or separate columns by ';'",
                           shown(text));
    }
    return fmt::format("{} is not a number", shown(text));
}

/// Reads a file's lines one after the other.
class TableReader {
public:
    TableReader(std::string_view bytes, const std::string& name, const CsvRule& rule)
        : scanner_(bytes, name), rule_(rule) {
        read_names();
    }

    NumberTable read() {
        while (next_row()) read_row();
        NumberTable table{.columns = {}, .values = {}, .lines = std::move(lines_), .gaps = gaps_};
        for (size_t i = 0; i < names_.size(); ++i) {
            if (taken_[i]) table.columns.push_back(names_[i]);
        }
        const auto rows = std::ssize(table.lines), width = std::ssize(table.columns);
        table.values = torch::from_blob(values_.data(), {rows, width}, torch::kFloat64).clone();
        return table;
    }

private:
    bool is_taken(const std::string& name) const {
        const auto has = [&](const std::vector<std::string>& names) {
            return std::ranges::find(names, name) != names.end();
        };
        return rule_.only.empty() ? !has(rule_.skip) : has(rule_.only);
    }

    void read_names() {
        CsvField field;
        while (!field.ends_line) {
            field = scanner_.next();
            names_.emplace_back(field.text);
            taken_.push_back(is_taken(names_.back()));
            if (field.problem) scanner_.fail(field.line, std::to_string(names_.size()), field.problem);
            if (!field.is_quoted && field.text.find('\r') != field.text.npos) {
                scanner_.fail(1, "its lines end in a carriage return alone; end them in a newline");
            }
        }
        for (const auto& name : rule_.skip) {
            if (std::ranges::find(names_, name) != names_.end()) continue;
            scanner_.fail(1, "dataset.skip_columns: " + unknown_name("column", name, names_));
        }
        std::string wrong = wrong_names(names_, taken_);
        if (wrong.starts_with("column")) wrong += ", or leave it out by " + skip_key({""});
        if (!wrong.empty()) scanner_.fail(1, wrong);
    }

    /// The key that leaves these columns out too.
    std::string skip_key(const std::vector<std::string>& more) const {
        auto all = rule_.skip;
        all.insert(all.end(), more.begin(), more.end());
        return "dataset.skip_columns=" + to_text(nlohmann::json(all));
    }

    /// Goes to where the next row begins; false at the end.
    bool next_row() {
        const int64_t line = scanner_.line();
        scanner_.skip_empty_lines();
        if (scanner_.at_end()) return false;
        if (scanner_.line() != line && !rule_.skip_gaps) scanner_.fail(line, kEmpty);
        return true;
    }

    /// Appends the numbers of the line that begins here, or leaves it out for a gap.
    void read_row() {
        const size_t before = values_.size();
        const int64_t begin = scanner_.line();
        size_t count = 0;
        bool has_gap = false;
        Wrong wrong;
        CsvField field;
        for (; !field.ends_line; ++count) {
            field = scanner_.next();
            if (count >= names_.size()) continue;
            if (field.problem) scanner_.fail(field.line, shown(names_[count]), field.problem);
            if (!taken_[count]) continue;
            const std::string_view text = field.is_quoted ? trimmed(field.text) : field.text;
            const auto value = number_of(text);
            const bool is_finite = value && std::isfinite(*value);
            const bool is_skipped = !is_finite && rule_.skip_gaps && is_gap(text);
            values_.push_back(is_finite ? *value : 0);
            if (is_finite) check_point(field, count);
            has_gap = has_gap || is_skipped;
            if (!is_finite && !is_skipped) note(wrong, field.line, count, text);
        }
        if (!wrong.message.empty()) fail(wrong);
        check_count(field.line, count);
        if (!has_gap && count == names_.size()) return lines_.push_back(begin);
        values_.resize(before);
        ++gaps_;
    }

    /// What is wrong in a row: of the first of its fields, and all whose text is of another kind than numbers.
    struct Wrong {
        int64_t line = 0;
        size_t column = 0;
        std::string message = {};
        std::vector<std::string> texts = {};
        bool is_gap = false;
    };

    void note(Wrong& wrong, int64_t line, size_t column, std::string_view text) const {
        const size_t other = text.find_first_of(";\t");
        if (other != text.npos && number(trimmed(text.substr(0, other)))) scanner_.refuse_separators(line, text);
        const std::string why = why_refused(text);
        if (wrong.message.empty()) wrong = {line, column, why, {}, is_gap(text)};
        if (!is_gap(text) && why.ends_with("is not a number")) wrong.texts.push_back(names_[column]);
    }

    [[noreturn]] void fail(const Wrong& wrong) const {
        std::string message = wrong.message;
        const bool has_keys = rule_.only.empty();
        if (has_keys && wrong.is_gap) message += "; dataset.skip_bad leaves such rows out";
        const bool is_text = !wrong.is_gap && std::ranges::find(wrong.texts, names_[wrong.column]) != wrong.texts.end();
        if (has_keys && is_text) message += "; columns of text are left out by " + skip_key(wrong.texts);
        scanner_.fail(wrong.line, shown(names_[wrong.column]), message);
    }

    /// Throws Error for a line of another number of fields than there are columns, but for a gap at its end.
    void check_count(int64_t line, size_t count) const {
        const size_t expected = names_.size();
        if (count > expected) {
            scanner_.fail(line, fmt::format("has {} fields, but the first line names {} columns (are there decimal "
                                            "commas? write points, or separate columns by ';')",
                                            count, expected));
        }
        if (count == expected || rule_.skip_gaps) return;
        scanner_.fail(line, shown(names_[count]),
                      fmt::format("it is missing; the line has {} of {} fields", count, expected));
    }

    /// Where commas do not separate columns, one may stand for the decimal point.
    std::optional<double> number_of(std::string_view text) const {
        const size_t comma = scanner_.separator() == ',' ? text.npos : text.find(',');
        if (comma == text.npos) return number(text);
        std::string with_point(text);
        with_point[comma] = '.';
        return number(with_point);
    }

    /// Throws Error where some numbers have decimal commas and some decimal points: then "1,000" may be a thousand.
    void check_point(const CsvField& field, size_t column) {
        if (scanner_.separator() == ',') return;
        const char mark = field.text.find(',') != field.text.npos   ? ','
                          : field.text.find('.') != field.text.npos ? '.'
                                                                    : mark_;
        if (mark_ != 0 && mark != mark_) {
            scanner_.fail(
                field.line, shown(names_[column]),
                fmt::format("{} has a decimal {}, numbers before it have a {}; write all alike", shown(field.text),
                            mark == ',' ? "comma" : "point", mark == ',' ? "point" : "comma"));
        }
        mark_ = mark;
    }

    Scanner scanner_;
    const CsvRule& rule_;
    std::vector<std::string> names_;
    std::vector<bool> taken_;
    std::vector<double> values_;
    std::vector<int64_t> lines_;
    int64_t gaps_ = 0;
    char mark_ = 0;  ///< for decimals, as far as it is known
};

/// Appends the fewest digits that give the float back when they are read as a double and converted.
void append_float(std::string& text, float value) {
    const size_t before = text.size();
    fmt::format_to(std::back_inserter(text), "{}", value);
    // Rounding twice goes wrong for 7.038531e-26.
    if (float(*number(std::string_view(text).substr(before))) == value) return;
    text.resize(before);
    fmt::format_to(std::back_inserter(text), "{}", double(value));
}

/// Appends the digits that tell a number which is known to a step; 0: all.
void append_number(std::string& text, double value, double step) {
    constexpr int kAll = 17;
    if (step > 0 && double(float(value)) == value) return append_float(text, float(value));
    const int digits = step > 0 ? int(std::ceil(std::log10(std::abs(value) / step))) + 1 : kAll;
    if (digits >= kAll)
        fmt::format_to(std::back_inserter(text), "{}", value);
    else
        fmt::format_to(std::back_inserter(text), "{:.{}g}", value, std::max(1, digits));
}

/// Throws Error where a file is no text in UTF-8.
void check_text(std::string_view bytes, const std::string& name) {
    if (bytes.find('\0') != bytes.npos) {
        throw Error(fmt::format("{}: is no text in UTF-8, for it has zero bytes; save it as CSV", name));
    }
    const size_t good = utf8_length(bytes);
    if (good == bytes.size()) return;
    throw Error(
        fmt::format("{}: line {}: is no text in UTF-8, for it has a byte {:02x} there; save it in UTF-8, as "
                    "iconv -f latin1 -t utf-8 does",
                    name, 1 + std::ranges::count(bytes.substr(0, good), '\n'), uint8_t(bytes[good])));
}

}  // namespace

NumberTable parse_csv(std::string_view bytes, const std::string& name, const CsvRule& rule) {
    check_text(bytes, name);
    if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
    if (bytes.find_first_not_of(" \t\r\n") == bytes.npos) {
        throw Error(fmt::format("{}: is empty; its first line must name the columns", name));
    }
    NumberTable table = TableReader(bytes, name, rule).read();
    if (table.gaps > 0 && table.lines.empty()) throw Error(fmt::format("{}: all of its rows have gaps", name));
    if (table.lines.empty()) throw Error(fmt::format("{}: has no rows below the line that names the columns", name));
    return table;
}

NumberTable read_csv(const std::filesystem::path& path, const CsvRule& rule) {
    const std::string name = display_path(path);
    const auto fail = [&](const std::string& what) { throw Error(fmt::format("{}: {}", name, what)); };
    std::string bytes = read_file(path, kMaxBytes);
    if (bytes.starts_with(kGzip)) bytes = inflated(bytes, Packing::kGzipFile, kMaxBytes, fail);
    if (bytes.size() > kMaxBytes) fail(fmt::format("more than {} bytes when it is unpacked", kMaxBytes));
    return parse_csv(bytes, name, rule);
}

std::string quoted_name(const std::string& name) {
    const bool is_plain =
        name.find_first_of(",;\"\t\r\n") == name.npos && trimmed(name) == name && !name.starts_with(kByteOrderMark);
    if (is_plain) return name;
    std::string quoted = "\"";
    for (const char c : name) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + '"';
}

void write_csv(const std::filesystem::path& path, const NumberTable& table, const std::vector<double>& steps) {
    const auto width = std::ssize(table.columns);
    TORCH_CHECK(table.values.dim() == 2 && table.values.size(1) == width, "a table needs a name for each column");
    const auto fail = [&](const std::string& what) {
        throw Error(fmt::format("cannot write {}: {}", display_path(path), what), kRunFailed);
    };
    const std::string wrong = wrong_names(table.columns, std::vector<bool>(table.columns.size(), true));
    if (!wrong.empty()) fail(wrong);
    const auto values = table.values.to(torch::kCPU, torch::kFloat64).contiguous();
    const double* numbers = values.data_ptr<double>();
    write_file(path, [&](const Put& put) {
        std::string text;
        for (const auto& name : table.columns) text += (text.empty() ? "" : ",") + quoted_name(name);
        text += '\n';
        for (int64_t i = 0; i < values.numel(); ++i) {
            const auto column = size_t(i % width);
            if (!std::isfinite(numbers[i])) {
                fail(fmt::format("row {} of column {} is {}", i / width + 1, shown(table.columns[column]), numbers[i]));
            }
            append_number(text, numbers[i], steps.empty() ? 0 : steps[column]);
            text += (i + 1) % width == 0 ? '\n' : ',';
            if (text.size() < kChunk) continue;
            put(text);
            text.clear();
        }
        put(text);
    });
}

}  // namespace diffuse
