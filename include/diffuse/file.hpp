#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace diffuse {

/// Writes a file so that whoever reads it sees the old one or the new one, whole: to a temporary name in the same
/// folder, flushed to disk, then renamed. `write` calls `put(bytes)` as often as it likes.
/// Throws Error, and leaves no temporary file behind, when the folder is missing or the disk is full.
using Put = std::function<void(std::string_view bytes)>;
void write_file(const std::filesystem::path& path, const std::function<void(const Put& put)>& write);
void write_file(const std::filesystem::path& path, std::string_view bytes);

/// The bytes of a regular file. Throws Error when it cannot be read or is larger than `most_bytes`.
std::string read_file(const std::filesystem::path& path, uintmax_t most_bytes);

/// Whether something, or a folder, is there; where that cannot be told, it is not.
bool is_there(const std::filesystem::path& path);
bool is_folder(const std::filesystem::path& path);

/// Creates a folder and its parents. Throws Error where that cannot be done.
void create_folder(const std::filesystem::path& path);

/// Throws Error when a file could not be written at `path`; for use before the work whose result goes there.
void require_writable(const std::filesystem::path& path);

/// For messages to the user: absolute, without "." and "..".
std::string display_path(const std::filesystem::path& path);

}  // namespace diffuse
