#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>

/// What the program says beside its results: lines of text to stderr and, once a file is open, to that file. A message
/// is one line; control characters in it become blanks. Safe to use from several threads. A stderr or a file that takes
/// no more text, as on a full disk, is no error: logging never ends a run.
namespace diffuse::log {

enum class Level { kDebug, kInfo, kWarn, kError };

void debug(const std::string& message);
void info(const std::string& message);  ///< on stderr as it is; the others with their level before it: "warning: ..."
void warn(const std::string& message);
void error(const std::string& message);

/// The lowest level that stderr shows; at first kInfo. The progress line counts as kInfo.
void set_stderr_level(Level lowest);

/// Whether nothing at all is said.
void set_silent(bool silent);

/// From now on messages and progress go to a stream, without colours; null: to stderr again. The level of stderr holds.
void set_stream(std::ostream* stream);

/// From now on appends every message, of whatever level, to this file, with time and level before it. Throws Error when
/// it cannot be opened. `close_file` ends that.
void open_file(const std::filesystem::path& path);
void close_file();

/// A text without control characters, each of which becomes a blank: for texts of files, which could steer a terminal.
std::string printable(std::string text);

/// Whether messages go to a terminal.
bool on_terminal();

/// Shows how far some work is, not in the file: on a terminal a line that is drawn anew at its place, below all
/// messages; elsewhere a plain line. `clear_progress` takes it away from a terminal.
void show_progress(const std::string& line);
void clear_progress();

}  // namespace diffuse::log
