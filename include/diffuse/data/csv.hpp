#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "diffuse/base/torch.hpp"

namespace diffuse {

/// Numbers under named columns.
struct NumberTable {
    std::vector<std::string> columns;  ///< their names, each different
    torch::Tensor values;              ///< float64 [N, columns]
    std::vector<int64_t> lines = {};   ///< of the file that it was read from, from 1: where each row begins
    int64_t gaps = 0;                  ///< rows that were left out
};

/// What is read of a file.
struct CsvRule {
    std::vector<std::string> skip = {};  ///< columns that are left out, whose fields may be any text
    std::vector<std::string> only = {};  ///< those that are read; none: all others
    bool skip_gaps = false;              ///< leaves out rows with gaps: empty or missing fields, NA, NaN, null, None
};

/// Reads a CSV file (RFC 4180), plain or packed by gzip: the first line names the columns, each other line has one
/// finite number for each. Columns are separated by commas, or by what the first line has more of: semicolons or tabs,
/// where the numbers may have decimal commas. Lines end in "\n" or "\r\n"; a byte order mark of UTF-8, quoted fields,
/// spaces around fields and empty lines at the end are taken. Throws Error naming the file, the line (from 1) and the
/// column for all else: bytes that are no UTF-8, a text that is no number, nan, inf, a missing, empty or extra field, a
/// header that is missing, repeats a name or is numbers, a quote that is not closed, decimal points beside decimal
/// commas, and a column of `rule.skip` that is not there.
NumberTable read_csv(const std::filesystem::path& path, const CsvRule& rule = {});

/// The same of a file's bytes; errors begin with `name`.
NumberTable parse_csv(std::string_view bytes, const std::string& name, const CsvRule& rule = {});

/// A column's name as the first line has it: in double quotes where it has commas, quotes, ends of lines or blanks at
/// its ends.
std::string quoted_name(const std::string& name);

/// Writes a table so that reading gives the same numbers back, bit for bit. `steps`: how finely the numbers of each
/// column are known; of one with a step above 0 only the digits that tell so much are written, and float32 in the
/// fewest digits that give it back. Throws Error where `read_csv` would not take it: for a number that is not finite,
/// and for names that are empty, repeated or all numbers.
void write_csv(const std::filesystem::path& path, const NumberTable& table, const std::vector<double>& steps = {});

}  // namespace diffuse
