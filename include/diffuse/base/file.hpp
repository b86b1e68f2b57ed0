#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace diffuse {

/// An open file of the operating system, closed on destruction.
class Descriptor {
public:
    explicit Descriptor(int value = -1) : value_(value) {}
    Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept;
    ~Descriptor();
    int get() const { return value_; }
    explicit operator bool() const { return value_ >= 0; }
    /// Closes it now; false when that fails, as on a network's full disk.
    bool close();

private:
    int value_;
};

/// Writes a file so that whoever reads it sees the old one or the new one, whole: to a temporary name in the same
/// folder, flushed to disk, then renamed. `write` calls `put(bytes)` as often as it likes. The mode of a file that is
/// replaced stays; of a symbolic link the target is replaced; a device or a pipe is written into.
/// Throws Error, and leaves no temporary file behind, when the folder is missing or the disk is full.
using Put = std::function<void(std::string_view bytes)>;
void write_file(const std::filesystem::path& path, const std::function<void(const Put& put)>& write);
void write_file(const std::filesystem::path& path, std::string_view bytes);

/// The bytes of a regular file or a pipe. Throws Error when it cannot be read or is larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, uintmax_t max_bytes);

/// The first bytes of a regular file, at most `count`; none where it cannot be read.
std::string read_beginning(const std::filesystem::path& path, size_t count);

/// Removes what a writer that was killed left of its temporary files in a folder.
void remove_temporaries(const std::filesystem::path& folder);

/// A file that grows by whole lines.
class LineFile {
public:
    explicit LineFile(const std::filesystem::path& path);
    /// Throws Error, and takes the part that was written back, when the disk is full.
    void append(std::string_view line);
    void flush_to_disk();

private:
    std::filesystem::path path_;
    Descriptor file_;
};

/// Holds a folder until it is destroyed or its process ends, however it ends. Throws Error when another holds it.
class FolderLock {
public:
    explicit FolderLock(const std::filesystem::path& folder);
    /// Where the folder is now: somebody may have moved it. Throws Error (exit code 1) when it was removed, or its
    /// place taken by another.
    std::filesystem::path folder() const;

private:
    bool is_in(const std::filesystem::path& folder) const;

    std::filesystem::path folder_;
    Descriptor file_;
};

/// A new folder for files in between, removed with all that is in it on destruction.
class TemporaryFolder {
public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

/// Where a symbolic link ends, be something there or not; other paths, and links to devices and pipes, as they are.
/// Throws Error for a loop of links.
std::filesystem::path behind_links(std::filesystem::path path);

/// Whether something, or a folder, is there; where that cannot be told, it is not.
bool path_exists(const std::filesystem::path& path);
bool is_folder(const std::filesystem::path& path);

/// Whether it is there and no plain file: a device or a pipe, which takes bytes but cannot be replaced, or a folder.
bool is_special(const std::filesystem::path& path);

/// Creates a folder and its parents. Throws Error where that cannot be done.
void create_folder(const std::filesystem::path& path);

/// Throws Error when a file could not be written at `path`; for use before the work whose result goes there.
void require_writable(const std::filesystem::path& path);

/// How a file's name ends, in lower case: ".png"; empty where it has no such end.
std::string file_ending(const std::filesystem::path& path);

/// A file of the project that its messages name, "configs/demo.json": where the program was installed, if it lies
/// there, else by its name in the project's folder.
std::filesystem::path shipped_file(const std::string& name);

/// For messages to the user: absolute, without "." and "..".
std::string display_path(const std::filesystem::path& path);

/// A word of a command line as a shell reads it again: in quotes where it needs them.
std::string shell_word(const std::string& word);

}  // namespace diffuse
