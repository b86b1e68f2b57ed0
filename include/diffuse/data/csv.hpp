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
};

/// Reads a CSV file (RFC 4180): the first line names the columns, each other line has one finite number for each. Lines
/// end in "\n" or "\r\n"; a byte order mark of UTF-8, quoted fields, spaces around fields and empty lines at the end
/// are taken. Throws Error naming the file, the line (from 1) and the column for all else: a text that is no number,
/// nan, inf, a missing, empty or extra field, a header that is missing, repeats a name or is numbers, a quote that is
/// not closed, other separators than commas, decimal commas.
NumberTable read_csv(const std::filesystem::path& path);

/// The same of a file's bytes; errors begin with `name`.
NumberTable parse_csv(std::string_view bytes, const std::string& name);

/// Writes a table so that reading gives the same numbers back, bit for bit; `as_float32`: the same when what is read is
/// converted to float32, in the fewest digits for that. Throws Error where `read_csv` would not take it: for a number
/// that is not finite, and for names that are empty, repeated or all numbers.
void write_csv(const std::filesystem::path& path, const NumberTable& table, bool as_float32 = false);

}  // namespace diffuse
