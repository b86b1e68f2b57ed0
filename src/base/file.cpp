#include "diffuse/base/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "diffuse/base/error.hpp"
#include "diffuse/base/processes.hpp"

namespace diffuse {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void fail(std::string_view what, const fs::path& path, ExitCode code = kRunFailed) {
    throw Error(fmt::format("cannot {} {}: {}", what, display_path(path), std::strerror(errno)), code);
}

void write_all(const Descriptor& file, std::string_view bytes, const fs::path& path) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail("write", path);
        bytes.remove_prefix(size_t(written));
    }
}

/// Makes a new name survive a power cut. Some file systems cannot do it, which is no reason to fail.
void flush_folder_of(const fs::path& path) {
    const Descriptor folder(open(fs::absolute(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder) fsync(folder.get());
}

/// The name under which a file is written: its own and `.PID.tmp`, or where that is too long, one that is not.
fs::path temporary_name(const fs::path& target) {
    const std::string suffix = fmt::format(".{}.tmp", getpid());
    const size_t length = target.filename().native().size();
    const bool fits = length + suffix.size() <= NAME_MAX || length > NAME_MAX;  // the system says so of the latter
    return fits ? fs::path(target.string() + suffix) : target.parent_path() / ("diffuse" + suffix);
}

/// A file under construction; removed again unless `commit` was reached. It gets the mode of the file it replaces.
class TemporaryFile {
public:
    explicit TemporaryFile(const fs::path& target)
        : target_(target),
          path_(temporary_name(target)),
          file_(open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) {
        if (!file_) fail("write", target_);
        struct stat before {};
        if (stat(target_.c_str(), &before) == 0) fchmod(file_.get(), before.st_mode & 07777);
    }
    ~TemporaryFile() {
        if (!committed_) unlink(path_.c_str());
    }
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    void put(std::string_view bytes) { write_all(file_, bytes, target_); }

    void commit() {
        if (fsync(file_.get()) != 0) fail("flush to disk", target_);
        if (!file_.close()) fail("close", target_);
        if (rename(path_.c_str(), target_.c_str()) != 0) fail("rename a temporary file to", target_);
        committed_ = true;
        flush_folder_of(target_);
    }

private:
    fs::path target_, path_;
    Descriptor file_;
    bool committed_ = false;
};

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
}

Descriptor::~Descriptor() { close(); }

bool Descriptor::close() { return value_ < 0 || ::close(std::exchange(value_, -1)) == 0; }

TemporaryFolder::TemporaryFolder() {
    std::error_code error;
    std::string name = (fs::temp_directory_path(error) / "diffuse-XXXXXX").string();
    if (error || !::mkdtemp(name.data())) {
        throw Error(fmt::format("{}: no temporary folder can be made; set TMPDIR to where one can", name), kRunFailed);
    }
    path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
}

fs::path behind_links(fs::path path) {
    constexpr int kMaxLinks = 40;  // as Linux has it
    std::error_code error;
    const fs::path first = path;
    for (int i = 0; i < kMaxLinks; ++i) {
        // What is written into needs no name of its own; /dev/stdout's links end in none.
        if (!fs::is_symlink(path, error) || is_special(path)) return path;
        path = path.parent_path() / fs::read_symlink(path, error);
    }
    throw Error(fmt::format("cannot write {}: too many symbolic links", display_path(first)));
}

std::string shell_word(const std::string& word) {
    const auto is_plain = [](unsigned char c) { return std::isalnum(c) || std::strchr("_./:=,@%+-", c); };
    if (!word.empty() && std::all_of(word.begin(), word.end(), is_plain)) return word;
    std::string quoted = "'";
    for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
    return quoted + "'";
}

std::filesystem::path shipped_file(const std::string& name) {
    std::error_code error;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
    const auto installed = program.parent_path().parent_path() / "share" / "diffuse" / name;
    return !error && path_exists(installed) ? installed : std::filesystem::path(name);
}

std::string display_path(const fs::path& path) {
    std::error_code error;
    const fs::path absolute = fs::absolute(path, error);
    if (error || path.empty()) return fmt::format("'{}'", path.string());
    const fs::path normal = absolute.lexically_normal();
    return (normal.has_filename() ? normal : normal.parent_path()).string();
}

std::string file_ending(const fs::path& path) {
    std::string ending = path.extension().string();
    std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return ending;
}

bool path_exists(const fs::path& path) {
    std::error_code error;
    return fs::exists(path, error);
}

bool is_folder(const fs::path& path) {
    std::error_code error;
    return fs::is_directory(path, error);
}

bool is_special(const fs::path& path) {
    std::error_code error;
    const auto status = fs::status(path, error);
    return fs::exists(status) && !fs::is_regular_file(status);
}

void write_file(const fs::path& path, const std::function<void(const Put&)>& write) {
    if (!processes::is_first()) return;
    const fs::path target = behind_links(path);
    if (is_special(target)) {
        const Descriptor file(open(target.c_str(), O_WRONLY | O_CLOEXEC));
        if (!file) fail("write", target);
        return write([&](std::string_view bytes) { write_all(file, bytes, target); });
    }
    TemporaryFile file(target);
    write([&](std::string_view bytes) { file.put(bytes); });
    file.commit();
}

void write_file(const fs::path& path, std::string_view bytes) {
    write_file(path, [&](const Put& put) { put(bytes); });
}

std::string read_file(const fs::path& path, uintmax_t max_bytes) {
    struct stat status {};
    const bool is_pipe = stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode);  // is waited for
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | (is_pipe ? 0 : O_NONBLOCK)));
    if (!file || fstat(file.get(), &status) != 0) fail("read", path, kBadInput);
    if (!is_pipe && !S_ISREG(status.st_mode)) {
        throw Error(fmt::format("cannot read {}: it is not a file", display_path(path)));
    }
    const auto require_expected = [&](uintmax_t size) {
        if (size <= max_bytes) return;
        throw Error(fmt::format("{}: more than the {} bytes expected of such a file", display_path(path), max_bytes));
    };
    require_expected(uintmax_t(status.st_size));  // before any are read
    std::string bytes;
    bytes.reserve(size_t(status.st_size));
    char part[1 << 16];
    for (ssize_t count; (count = ::read(file.get(), part, sizeof part)) != 0;) {
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) fail("read", path, kBadInput);
        bytes.append(part, size_t(count));
        require_expected(bytes.size());
    }
    return bytes;
}

std::string read_beginning(const fs::path& path, size_t count) {
    std::error_code error;
    if (!fs::is_regular_file(path, error)) return "";
    std::string bytes(count, '\0');
    std::ifstream file(path, std::ios::binary);
    file.read(bytes.data(), std::ssize(bytes));
    bytes.resize(size_t(file.gcount()));
    return bytes;
}

void remove_temporaries(const fs::path& folder) {
    const auto is_number = [](const std::string& text) {
        return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    };
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        const fs::path name = entry.path().filename(), stem = name.stem();
        const bool ours =
            name.extension() == ".tmp" && stem.has_extension() && is_number(stem.extension().string().substr(1));
        if (ours) fs::remove(entry.path(), error);
    }
}

LineFile::LineFile(const fs::path& path)
    : path_(path), file_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666)) {
    if (!file_) fail("write", path_);
    // Nor is a reader waited for, which may never come.
    if (fs::is_fifo(path)) throw Error(fmt::format("cannot write {}: it is a pipe", display_path(path)));
}

void LineFile::append(std::string_view line) {
    const off_t before = lseek(file_.get(), 0, SEEK_END);
    try {
        write_all(file_, std::string(line) + '\n', path_);
    } catch (const Error&) {
        if (ftruncate(file_.get(), before) != 0) fail("write", path_);
        throw;
    }
}

void LineFile::flush_to_disk() {
    if (fsync(file_.get()) != 0) fail("flush to disk", path_);
}

FolderLock::FolderLock(const fs::path& folder)
    : folder_(folder), file_(open((folder / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (!file_) fail("write", folder / ".lock", kBadInput);
    // A file system that knows no locks (some network ones) gives another error, and must not keep anyone from work.
    if (flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        throw Error(fmt::format("another training is at work in {}; wait for it, or take another folder",
                                display_path(folder)));
    }
}

bool FolderLock::is_in(const fs::path& folder) const {
    struct stat there {
    }, held{};
    return stat((folder / ".lock").c_str(), &there) == 0 && fstat(file_.get(), &held) == 0 &&
           there.st_dev == held.st_dev && there.st_ino == held.st_ino;
}

fs::path FolderLock::folder() const {
    if (is_in(folder_)) return folder_;
    std::error_code error;  // Linux knows where an open file is now
    const fs::path moved = fs::read_symlink(fmt::format("/proc/self/fd/{}", file_.get()), error).parent_path();
    if (!moved.empty() && is_in(moved)) return moved;
    throw Error(fmt::format("{}: No such file or directory: it was removed, or another folder took its place",
                            display_path(folder_)),
                kRunFailed);
}

void create_folder(const fs::path& path) {
    std::error_code error;
    fs::create_directories(path, error);
    if (error) throw Error(fmt::format("cannot create the folder {}: {}", display_path(path), error.message()));
}

void require_writable(const fs::path& path) {
    if (path.empty()) throw Error("an output path is empty");
    const fs::path folder = fs::absolute(path).parent_path();
    if (!is_folder(folder)) {
        throw Error(fmt::format("cannot write {}: there is no folder {}", display_path(path), folder.string()));
    }
    if (is_folder(path)) throw Error(fmt::format("cannot write {}: it is a folder", display_path(path)));
    const fs::path target = behind_links(path);
    if (is_special(target)) {
        if (access(target.c_str(), W_OK) != 0) fail("write", target, kBadInput);
        return;
    }
    try {
        TemporaryFile probe(target);
    } catch (const Error& error) {
        throw Error(error.what(), kBadInput);
    }
}

}  // namespace diffuse
