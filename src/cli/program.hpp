#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

namespace diffuse::cli {

/// Where a command writes.
struct Streams {
    std::ostream& out;            ///< its result
    std::ostream* log = nullptr;  ///< messages; null: stderr, with colours and progress on a terminal
};

/// Runs one command line: `arguments` are the words behind the program's name. Whatever goes wrong is said in one line
/// of the log.
/// Returns the exit code: 0, 1 for a failed run, 2 for usage and bad input, 128 + N for a training ended by signal N.
int run(const std::vector<std::string>& arguments, const Streams& streams);

/// The same for a line that is wrong, or that asks for nothing to be calculated: help, the version, completions. None
/// for all others, of which nothing is done. LibTorch need not have started.
std::optional<int> answer(const std::vector<std::string>& arguments, const Streams& streams);

}  // namespace diffuse::cli
